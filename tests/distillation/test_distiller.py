"""Algorithm 2: against a literal transcription; the student comes out plain."""

import copy
from pathlib import Path

import pytest
import torch
import toy_pair

from ciba_bev.checkpoints.matching import compare_weights
from ciba_bev.errors import CibaError, ConfigError
from ciba_bev.registry import MODELS, TASK_UTILS


def run(model, *indices):
    return model(**model.data_preprocessor(toy_pair.make_batch(*indices), True), mode='loss')


def features_of(model, *indices):
    """The teacher's feature and the student's, computed by hand."""
    inputs = toy_pair.make_batch(*indices)['inputs']
    teacher = model.teacher.model.eval()
    z_teacher = teacher.neck(teacher.backbone(torch.stack(inputs['lidar'])))[0]
    return z_teacher.detach(), model.student.backbone(torch.stack(inputs['camera']))


def test_loss_is_algorithm_2_cell_by_cell(make_distiller):
    model = make_distiller(4, loss=dict(type='ciba_bev.MSELoss', reduction='sum'))
    loss = run(model, 0, 1)['loss_distillation']
    z_teacher, z_student = features_of(model, 0, 1)
    encoder = model.teacher.encoder
    expected = 0.0
    for sample in range(2):
        for row in range(8):
            for column in range(8):
                code = encoder.encode(z_teacher[sample : sample + 1, :, row, column])[0]
                student = z_student[sample, :, row, column]
                for channel in range(4):
                    expected += float(code[channel] - student[channel]) ** 2
    # The paper sums over the data; a batch is averaged over samples and cells.
    assert float(loss) == pytest.approx(expected / (2 * 64), rel=1e-5)


def test_batches_are_moved_without_waiting(make_distiller, monkeypatch):
    moves, move = [], torch.Tensor.to

    def to(tensor, *arguments, **options):
        moves.append(options.get('non_blocking'))
        return move(tensor, *arguments, **options)

    preprocessor = make_distiller(4).data_preprocessor
    monkeypatch.setattr(torch.Tensor, 'to', to)
    preprocessor(toy_pair.make_batch(0, 1), True)
    assert moves
    assert all(moves)


def test_loss_without_init_weights_is_that_of_the_same_weights(make_distiller, distiller_model):
    expected = make_distiller(4)
    model = MODELS.build(distiller_model(4))
    model.load_state_dict(expected.state_dict())
    loss = run(model, 0, 1)['loss_distillation']
    torch.testing.assert_close(loss, run(expected, 0, 1)['loss_distillation'])


def test_predictions_need_neither_teacher_nor_bottleneck(pair, distiller_model, bottleneck_file):
    model = MODELS.build(distiller_model(4)).eval()
    Path(pair['teacher']['checkpoint']).unlink()
    bottleneck_file.unlink()
    assert len(model.test_step(toy_pair.make_batch(0, 1))) == 2


def test_mean_reduction_and_weight(make_distiller):
    model = make_distiller(2, loss_weight=0.5)
    z_teacher, z_student = features_of(model, 3)
    expected = (model.teacher.encoder.encode(z_teacher) - z_student[:, :2]).square().mean() / 2
    torch.testing.assert_close(run(model, 3)['loss_distillation'], expected)


@pytest.mark.parametrize('size', [2, 4])
def test_gradients_reach_the_first_channels_and_no_others(make_distiller, size):
    model = make_distiller(size)
    seen = []
    model.student.head.register_forward_pre_hook(
        lambda module, args: (args[0].retain_grad(), seen.append(args[0]))[0]
    )
    run(model, 0, 1)['loss_distillation'].backward()
    gradient = seen[0].grad.abs().sum(dim=(0, 1))
    assert bool((gradient[:size] > 0).all())
    assert bool((gradient[size:] == 0).all())
    assert model.student.head.weight.grad is None


def test_task_loss_is_the_students_own(make_distiller, pair):
    model = make_distiller()
    losses = run(model, 0, 1)
    alone = model.student(
        **model.student.data_preprocessor(toy_pair.make_batch(0, 1), True), mode='loss'
    )
    assert set(losses) == {'loss_cls', 'loss_distillation'}
    assert torch.equal(losses['loss_cls'], alone['loss_cls'])


def test_without_bottleneck_all_channels_are_compared(make_distiller, pair):
    pair['teacher']['tap'] = dict(module='backbone')
    with pytest.raises(ConfigError, match=r'8 channels and the student.*has 10'):
        run(make_distiller(None), 0)


def test_sampled_targets_vary_and_mean_targets_do_not(make_distiller):
    sampled, fixed = make_distiller(4, target='sample'), make_distiller(4)
    assert run(sampled, 0)['loss_distillation'] != run(sampled, 0)['loss_distillation']
    assert run(fixed, 0)['loss_distillation'] == run(fixed, 0)['loss_distillation']


def test_normalised_target(make_distiller):
    model = make_distiller(4, normalize_target=True)
    z_teacher, z_student = features_of(model, 0, 1)
    code = model.teacher.encoder.encode(z_teacher)
    target = torch.nn.functional.batch_norm(code, None, None, training=True, eps=1e-12)
    expected = (target - z_student[:, :4]).square().mean()
    torch.testing.assert_close(run(model, 0, 1)['loss_distillation'], expected)


@TASK_UTILS.register_module()
class FirstRow:
    """Weighs the first row of the grid and nothing else."""

    def __call__(self, data_samples, grid):
        weight = torch.zeros(len(data_samples), 1, *grid)
        weight[:, :, 0] = 1
        return weight


def test_weighted_target(make_distiller):
    model = make_distiller(4, target_weight=dict(type='ciba_bev.FirstRow'))
    z_teacher, z_student = features_of(model, 0, 1)
    expected = (model.teacher.encoder.encode(z_teacher) - z_student[:, :4])[:, :, 0].square().mean()
    torch.testing.assert_close(run(model, 0, 1)['loss_distillation'], expected)


def test_cached_targets_are_those_of_the_teacher(make_distiller):
    """Batch by batch the same losses; the teacher runs for samples that were not seen yet."""
    batches = [(0, 1), (2, 3), (3, 0), (1, 4)]
    plain = make_distiller(4)
    expected = [run(plain, *batch)['loss_distillation'] for batch in batches]
    model = make_distiller(4, cache_targets=True)
    model.load_state_dict(plain.state_dict())
    runs = []
    model.teacher.model.register_forward_pre_hook(lambda *unused: runs.append(1))
    for batch, loss in zip(batches, expected):
        torch.testing.assert_close(run(model, *batch)['loss_distillation'], loss)
    # 3 and 0 were in different batches before; 4 was in none.
    assert len(runs) == 3


def test_teacher_and_encoder_do_not_change(make_runner, distiller_model):
    runner = make_runner('run', distiller_model(4))
    runner.train()
    teacher, encoder = runner.model.teacher, runner.model.teacher.encoder
    weights = {id(p) for group in runner.optim_wrapper.param_groups for p in group['params']}
    assert weights == {id(p) for p in runner.model.student.parameters()}
    for model, path, prefix in (
        (teacher.model, teacher.checkpoint, ''),
        (encoder, runner.model.bottleneck_config['checkpoint'], 'bottlenecks.h4.'),
    ):
        original = torch.load(path, weights_only=True)['state_dict']
        for name, value in model.state_dict().items():
            assert torch.equal(value, original[prefix + name]), name
        assert not model.training


def test_checkpoints_hold_the_student_under_its_own_names(make_runner, distiller_model, pair):
    runner = make_runner('run', distiller_model(4))
    runner.train()
    content = torch.load(f'{runner.work_dir}/epoch_2.pth', weights_only=False)
    student = MODELS.build(pair['student']['config'])
    comparison = compare_weights(student, content['state_dict'])
    assert comparison.is_complete, comparison.describe()
    student.load_state_dict(content['state_dict'])
    for name, value in student.state_dict().items():
        assert torch.equal(value, runner.model.student.state_dict()[name])
    assert content['distillation']['method'] == 'MSELoss on a code of 4'


def test_resumed_equals_uninterrupted(make_runner, distiller_model):
    whole = make_runner('whole', distiller_model(4))
    whole.train()
    rest = make_runner(
        'rest', distiller_model(4), load_from=f'{whole.work_dir}/epoch_1.pth', resume=True
    )
    rest.train()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, rest.model.state_dict()[name]), name


def test_predictions_are_the_students(make_distiller):
    model = make_distiller()
    batch = toy_pair.make_batch(0, 1)
    del batch['inputs']['lidar']
    found = model.eval().val_step(batch)
    expected = model.student.val_step(batch)
    assert [torch.equal(a['logits'], b['logits']) for a, b in zip(found, expected)] == [True, True]


def test_nan_stops_the_step_and_names_the_samples(make_distiller):
    model = make_distiller()
    batch = toy_pair.make_batch(4, 6)
    batch['inputs']['camera'][0][0, 0, 0] = float('inf')
    with pytest.raises(CibaError, match='sample-4, sample-6'):
        model(**model.data_preprocessor(batch, True), mode='loss')


def test_train_does_not_wake_the_teacher(make_distiller):
    model = make_distiller()
    model.train()
    assert not model.teacher.model.training
    assert not any('teacher' in name for name, _ in model.named_modules())
    assert set(model.state_dict()) == set(model.student.state_dict())


def test_a_copy_of_weights_goes_back_in(make_distiller):
    first, second = make_distiller(), make_distiller()
    for parameter in first.student.parameters():
        torch.nn.init.normal_(parameter)
    second.load_state_dict(copy.deepcopy(first.state_dict()), strict=True)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(target='median'), 'target'),
        (dict(target='sample', cache_targets=True), 'would sample only once'),
        (dict(student_tap=dict(module='haed')), 'Similar names: head'),
        (dict(bottleneck=dict(checkpoint='x', size=4)), 'needs checkpoint, config and size'),
    ],
)
def test_bad_arguments(distiller_model, options, message):
    with pytest.raises(ConfigError, match=message):
        MODELS.build({**distiller_model(4), **options})
