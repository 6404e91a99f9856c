"""Algorithm 1: against a literal transcription, alone and together, interrupted and not."""

import copy
import itertools
from pathlib import Path

import pytest
import torch
import toy_pair
from mmengine.runner import Runner
from torch.utils._python_dispatch import TorchDispatchMode

from ciba_bev.distillation.bottleneck_training import load_bottleneck
from ciba_bev.distillation.frozen_model import FrozenModel
from ciba_bev.engine import CheckedRunner
from ciba_bev.errors import CibaError, ConfigError
from ciba_bev.registry import MODELS


def build(config):
    model = MODELS.build(config)
    model.init_weights()
    return model


def losses_of(model, *indices):
    return model(**model.data_preprocessor(toy_pair.make_batch(*indices), True), mode='loss')


def bottleneck_weights(model, size):
    return model.bottlenecks[f'h{size}'].state_dict()


def test_loss_is_algorithm_1_cell_by_cell(bottleneck_model):
    model = build(bottleneck_model(2))
    bottleneck = model.bottlenecks['h2']
    data = model.data_preprocessor(toy_pair.make_batch(0, 1), False)
    # In validation the code is its mean, so every step of the algorithm can be written down.
    model.steps += 1
    measured = model(**data, mode='predict')
    z_teacher = model.teacher.feature(data)
    z_student = model.student.feature(data)
    (batch,) = measured
    generation = regularization = 0.0
    for sample, row, column in itertools.product(range(2), range(8), range(8)):
        cell = z_teacher[sample : sample + 1, :, row, column]
        decoded = bottleneck.decode(bottleneck.encode(cell)).detach()
        wanted = z_student[sample : sample + 1, :, row, column]
        mean, log_variance = bottleneck.distribution(cell)
        generation += float((decoded - wanted).square().sum())
        regularization += -0.5 * float(
            (1 + log_variance - mean**2 - log_variance.exp()).sum().detach()
        )
    assert float(batch['h2'].generation.detach()) == pytest.approx(generation / 128, rel=1e-5)
    assert float(batch['h2'].regularization.detach()) == pytest.approx(
        regularization / 128, rel=1e-4
    )
    torch.testing.assert_close(batch['student'], z_student)


def test_batches_are_moved_without_waiting(bottleneck_model, monkeypatch):
    moves, move = [], torch.Tensor.to

    def to(tensor, *arguments, **options):
        moves.append(options.get('non_blocking'))
        return move(tensor, *arguments, **options)

    preprocessor = build(bottleneck_model(2)).data_preprocessor
    monkeypatch.setattr(torch.Tensor, 'to', to)
    preprocessor(toy_pair.make_batch(0, 1), True)
    assert moves
    assert all(moves)


def test_nothing_is_read_from_the_device_once_the_frozen_models_run(bottleneck_model, monkeypatch):
    """The bottlenecks' kernels are to be queued while those of the frozen models still run."""
    model = build(bottleneck_model(2, 4))
    data = model.data_preprocessor(toy_pair.make_batch(0, 1), True)
    features = model.read_features(data)
    reads = []

    class Reads(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function.overloadpacket.__name__ == '_local_scalar_dense':
                reads.append(function)
            return function(*args, **(kwargs or {}))

    monkeypatch.setattr(model, 'read_features', lambda data: reads.clear() or features)
    with Reads():
        sum(model(**data, mode='loss').values()).backward()
    assert not reads


def test_training_finds_what_the_two_sensors_share(bottleneck_model, make_runner):
    config = bottleneck_model(4)
    config['bottleneck']['regularization_weight'] = 1e-3
    runner = make_runner(
        'run', config, toy_pair.BOTTLENECK_OPTIMIZER, train_cfg=dict(max_epochs=20)
    )
    runner.train()
    z_student = runner.model.student.feature(toy_pair.make_batch(*range(8)))
    variance = float(z_student.var(dim=(0, 2, 3), unbiased=False).sum())
    # No guess made without looking at the teacher does better than the variance.
    generation = losses_of(runner.model, *range(8))['h4.loss_generation'].detach()
    assert float(generation) < 0.99 * variance


def test_sizes_trained_together_equal_each_trained_alone(bottleneck_model, make_runner):
    together = make_runner('all', bottleneck_model(2, 4, 5), toy_pair.BOTTLENECK_OPTIMIZER)
    together.train()
    for size in (2, 4, 5):
        alone = make_runner(f'h{size}', bottleneck_model(size), toy_pair.BOTTLENECK_OPTIMIZER)
        alone.train()
        expected = bottleneck_weights(alone.model, size)
        for name, value in bottleneck_weights(together.model, size).items():
            assert torch.equal(value, expected[name]), (size, name)


def test_gradients_are_clipped_size_by_size(bottleneck_model, make_runner, monkeypatch):
    runner = make_runner('clip', bottleneck_model(2, 4), toy_pair.BOTTLENECK_OPTIMIZER)
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    for scale, bottleneck in zip((1.0, 1000.0), runner.model.bottlenecks.values()):
        for parameter in bottleneck.parameters():
            parameter.grad = torch.full_like(parameter, scale)
    before = [
        float(torch.cat([p.grad.flatten() for p in bottleneck.parameters()]).norm())
        for bottleneck in runner.model.bottlenecks.values()
    ]
    # Each would wait for the device; they are read together.
    monkeypatch.setattr(torch.Tensor, '__float__', None)
    wrapper._clip_grad()
    monkeypatch.undo()
    logged = [
        wrapper.message_hub.get_scalar(f'train/grad_norm_h{size}').current() for size in (2, 4)
    ]
    assert logged == pytest.approx(before)
    for bottleneck in runner.model.bottlenecks.values():
        norm = torch.cat([p.grad.flatten() for p in bottleneck.parameters()]).norm()
        assert float(norm) == pytest.approx(0.5, rel=1e-4)


def test_resumed_equals_uninterrupted(bottleneck_model, make_runner):
    model = bottleneck_model(2, 4)
    whole = make_runner('whole', model, toy_pair.BOTTLENECK_OPTIMIZER)
    whole.train()
    rest = make_runner(
        'rest',
        model,
        toy_pair.BOTTLENECK_OPTIMIZER,
        load_from=f'{whole.work_dir}/epoch_1.pth',
        resume=True,
    )
    rest.train()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, rest.model.state_dict()[name]), name


def test_only_bottlenecks_are_trained_and_saved(bottleneck_model, make_runner):
    runner = make_runner('frozen', bottleneck_model(2), toy_pair.BOTTLENECK_OPTIMIZER)
    models = [runner.model.teacher.model, runner.model.student.model]
    runner.model.init_weights()
    before = [copy.deepcopy(model.state_dict()) for model in models]
    runner.train()
    for model, weights in zip(models, before):
        for name, value in model.state_dict().items():
            assert torch.equal(value, weights[name]), name
    checkpoint = torch.load(f'{runner.work_dir}/epoch_2.pth', weights_only=False)
    assert {name.split('.')[0] for name in checkpoint['state_dict']} == {'bottlenecks', 'steps'}
    assert checkpoint['distillation']['sizes'] == [2]


def test_cached_features_are_the_features(bottleneck_model, tmp_path):
    plain = build(bottleneck_model(2))
    cached = build(bottleneck_model(2, feature_cache=str(tmp_path / 'cache')))
    data = [model.data_preprocessor(toy_pair.make_batch(0, 1), True) for model in (plain, cached)]
    expected = plain.read_features(data[0])
    cached.read_features(data[1])
    cached.teacher.feature = cached.student.feature = None  # would fail if it were called again
    for found, wanted in zip(cached.read_features(data[1]), expected):
        torch.testing.assert_close(found, wanted, atol=2e-3, rtol=1e-3)


def test_another_teacher_has_another_cache(bottleneck_model, pair, tmp_path):
    folder = str(tmp_path / 'cache')
    first = build(bottleneck_model(2, feature_cache=folder))
    content = torch.load(pair['teacher']['checkpoint'], weights_only=True)
    content['state_dict']['neck.lateral.bias'] += 1
    torch.save(content, pair['teacher']['checkpoint'])
    second = build(bottleneck_model(2, feature_cache=folder))
    assert first._cache.folder != second._cache.folder


@pytest.fixture
def validated(bottleneck_model, make_runner, tmp_path):
    """A training that ended with a validation: its config, metrics, checkpoint, and result file."""
    loader = dict(
        batch_size=2,
        num_workers=0,
        dataset=dict(type='ToyPairs'),
        collate_fn=dict(type='pseudo_collate'),
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    out_file = tmp_path / 'bottlenecks.json'
    evaluator = dict(type='BottleneckMetric', out_file=str(out_file))
    runner = make_runner(
        'train',
        bottleneck_model(2, 4),
        toy_pair.BOTTLENECK_OPTIMIZER,
        val_dataloader=loader,
        val_evaluator=evaluator,
        val_cfg=dict(type='ValLoop'),
        test_dataloader=loader,
        test_evaluator=evaluator,
        test_cfg=dict(type='TestLoop'),
    )
    runner.train()
    metrics = runner.val_loop.run()
    return runner.cfg, metrics, f'{runner.work_dir}/epoch_2.pth', out_file


@pytest.mark.parametrize('runner_type', [CheckedRunner, Runner])
def test_testing_measures_what_validation_measured(validated, runner_type):
    cfg, expected, checkpoint, out_file = validated
    content = out_file.read_bytes()
    out_file.unlink()
    cfg.load_from, cfg.experiment_name = checkpoint, f'test_{runner_type.__name__}'
    assert runner_type.from_cfg(cfg).test() == expected
    assert out_file.read_bytes() == content


@pytest.mark.parametrize('runner_type', [CheckedRunner, Runner])
@pytest.mark.parametrize('role', ['teacher', 'student'])
def test_testing_without_a_frozen_model_leaves_the_results(validated, pair, role, runner_type):
    cfg, _, checkpoint, out_file = validated
    content = out_file.read_bytes()
    Path(pair[role]['checkpoint']).unlink()
    cfg.load_from, cfg.experiment_name = checkpoint, f'{role}_gone_{runner_type.__name__}'
    with pytest.raises(ConfigError, match=f'the {role} needs'):
        runner_type.from_cfg(cfg).test()
    assert out_file.read_bytes() == content


def test_untrained_bottlenecks_are_not_measured(validated):
    cfg, _, _, out_file = validated
    content = out_file.read_bytes()
    cfg.experiment_name = 'untrained'
    with pytest.raises(CibaError, match='not trained for a single step'):
        Runner.from_cfg(cfg).test()
    assert out_file.read_bytes() == content


def load(pair, path, size=4):
    teacher = FrozenModel('teacher', **pair['teacher'])
    teacher.load()
    return load_bottleneck(str(path), size, teacher, 'configs/bottleneck.py')


def test_one_bottleneck_is_read_back(pair, bottleneck_file):
    bottleneck = load(pair, bottleneck_file)
    weights = torch.load(bottleneck_file, weights_only=True)['state_dict']
    for name, value in bottleneck.state_dict().items():
        assert torch.equal(value, weights[f'bottlenecks.h4.{name}'])
    assert not bottleneck.training
    assert not any(parameter.requires_grad for parameter in bottleneck.parameters())


def test_a_size_that_was_not_trained(pair, bottleneck_file):
    with pytest.raises(ConfigError, match=r'sizes \[2, 4\], not 8'):
        load(pair, bottleneck_file, size=8)


def test_bottlenecks_of_another_teacher(pair, bottleneck_file):
    content = torch.load(pair['teacher']['checkpoint'], weights_only=True)
    content['state_dict']['neck.lateral.bias'] += 1
    torch.save(content, pair['teacher']['checkpoint'])
    with pytest.raises(ConfigError, match='holds other weights'):
        load(pair, bottleneck_file)


def test_bottlenecks_of_another_tap(pair, bottleneck_file):
    pair['teacher']['tap'] = dict(module='neck', index=1)
    with pytest.raises(ConfigError, match='index 0 there, 1 here'):
        load(pair, bottleneck_file)


def test_a_file_that_holds_no_bottlenecks(pair):
    with pytest.raises(ConfigError, match='no checkpoint of bottlenecks'):
        load(pair, pair['student']['checkpoint'])


def test_missing_file_names_the_command(pair, tmp_path):
    with pytest.raises(ConfigError, match=r'dist_train\.sh configs/bottleneck.py'):
        load(pair, tmp_path / 'nowhere.pth')


@pytest.mark.parametrize('sizes', [(), (2, 2), (7,)])
def test_bad_sizes(bottleneck_model, sizes):
    with pytest.raises(ConfigError):
        MODELS.build(bottleneck_model(*sizes))


def test_channels_that_are_not_the_features(bottleneck_model):
    config = bottleneck_model(2)
    config['bottleneck']['in_channels'] = 7
    with pytest.raises(ConfigError, match='7'):
        losses_of(build(config), 0)
