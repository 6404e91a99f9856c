"""The mean of each cell: measured exactly, subtracted in Algorithm 1 and Algorithm 2."""

import pytest
import torch
import toy_pair

from ciba_bev.distillation.cell_means import CellMeans
from ciba_bev.errors import ConfigError
from ciba_bev.registry import MODELS

HOOKS = [dict(type='CellMeansHook'), dict(type='DistillationRecordHook')]
OPTION = dict(subtract_cell_means=True)


def features_of_all(model):
    """Both features of all eight samples, read from the frozen models."""
    data = toy_pair.make_batch(*range(8))
    return model.teacher.feature(data), model.student.feature(data)


@pytest.fixture
def trained(bottleneck_model, make_runner):
    """A run of Algorithm 1 that subtracts the means."""
    runner = make_runner(
        'means',
        bottleneck_model(2, 4, **OPTION),
        toy_pair.BOTTLENECK_OPTIMIZER,
        custom_hooks=HOOKS,
    )
    runner.train()
    return runner


@pytest.mark.parametrize('sizes', [(8,), (3, 5), (1,) * 8])
def test_means_do_not_depend_on_the_batches(sizes):
    # Large values: a mean in single precision would lose what differs.
    features = torch.randn(8, 3, 4, 5) + 1e4, torch.randn(8, 2, 4, 5)
    means = CellMeans()
    means.measure(zip(*(feature.split(sizes) for feature in features)))
    for mean, feature in zip((means.teacher, means.student), features):
        torch.testing.assert_close(mean, feature.double().mean(0).float(), rtol=0, atol=0)


def test_means_are_those_of_the_training_set(trained):
    means = trained.model.cell_means
    for mean, feature in zip((means.teacher, means.student), features_of_all(trained.model)):
        torch.testing.assert_close(mean, feature.mean(0), atol=1e-6, rtol=1e-5)


def test_algorithm_1_sees_features_without_means(trained, bottleneck_model):
    model = trained.model
    data = model.data_preprocessor(toy_pair.make_batch(*range(8)), False)
    (measured,) = model(**data, mode='predict')
    for name in ('teacher', 'student'):
        mean = measured[name].mean(0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)
    # The same bottleneck without the option, given features from which they are subtracted.
    plain = MODELS.build(bottleneck_model(2, 4)).bottlenecks['h4']
    plain.load_state_dict(model.bottlenecks['h4'].state_dict())
    teacher, student = (f - f.mean(0) for f in features_of_all(model))
    expected = plain.evaluate(teacher, student).generation
    torch.testing.assert_close(measured['h4'].generation, expected, atol=1e-5, rtol=1e-4)


def test_means_are_saved_and_loaded(trained, bottleneck_model):
    content = torch.load(f'{trained.work_dir}/epoch_2.pth', weights_only=False)
    model = MODELS.build(bottleneck_model(2, 4, **OPTION))
    model.load_state_dict(content['state_dict'])
    for name, value in trained.model.cell_means.state_dict().items():
        assert torch.equal(model.cell_means.state_dict()[name], value)


def test_a_resumed_training_keeps_its_means(trained, bottleneck_model, make_runner, monkeypatch):
    monkeypatch.setattr(CellMeans, 'measure', lambda *pairs: pytest.fail('measured again'))
    rest = make_runner(
        'rest',
        bottleneck_model(2, 4, **OPTION),
        toy_pair.BOTTLENECK_OPTIMIZER,
        custom_hooks=HOOKS,
        load_from=f'{trained.work_dir}/epoch_1.pth',
        resume=True,
    )
    rest.train()
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, rest.model.state_dict()[name]), name


def test_a_cache_is_filled_and_changes_no_weight(bottleneck_model, make_runner, tmp_path):
    model = bottleneck_model(2, feature_cache=str(tmp_path / 'cache'), **OPTION)
    weights = []
    for name in ('cold', 'warm'):
        runner = make_runner(name, model, toy_pair.BOTTLENECK_OPTIMIZER, custom_hooks=HOOKS)
        runner.train()
        weights.append(runner.model.state_dict())
    assert len(list((tmp_path / 'cache').glob('*/*.npz'))) == 8
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_the_target_of_algorithm_2_is_the_code_without_the_mean(trained, distiller_model):
    config = distiller_model(4)
    config['bottleneck']['checkpoint'] = f'{trained.work_dir}/epoch_2.pth'
    distiller = MODELS.build(config)
    distiller.init_weights()
    teacher, student = features_of_all(trained.model)
    target, _ = distiller.teacher.target(
        toy_pair.make_batch(0, 1), student[:2], distiller.student_tap
    )
    bottleneck = trained.model.bottlenecks['h4'].eval()
    expected = bottleneck.encode(teacher[:2] - teacher.mean(0))
    torch.testing.assert_close(target, expected.detach(), atol=1e-5, rtol=1e-4)


def test_means_that_were_not_measured_are_missed(bottleneck_model):
    model = MODELS.build(bottleneck_model(2, **OPTION))
    model.init_weights()
    with pytest.raises(ConfigError, match='CellMeansHook'):
        model(**model.data_preprocessor(toy_pair.make_batch(0, 1), True), mode='loss')


def test_another_grid_is_refused(trained, distiller_model):
    config = distiller_model(4)
    config['bottleneck']['checkpoint'] = f'{trained.work_dir}/epoch_2.pth'
    distiller = MODELS.build(config)
    distiller.init_weights()
    with pytest.raises(ConfigError, match=r'means of shape \(6, 8, 8\)'):
        distiller.teacher.encoder.encode(torch.zeros(1, 6, 4, 4))


def test_the_hook_leaves_other_trainings_alone(bottleneck_model, make_runner):
    plain = make_runner('plain', bottleneck_model(2), toy_pair.BOTTLENECK_OPTIMIZER)
    hooked = make_runner(
        'hooked', bottleneck_model(2), toy_pair.BOTTLENECK_OPTIMIZER, custom_hooks=HOOKS
    )
    plain.train(), hooked.train()
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, hooked.model.state_dict()[name]), name
