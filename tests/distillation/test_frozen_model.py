"""The teacher is a guest: frozen, run to its tap, never saved."""

import copy
from types import SimpleNamespace

import pytest
import torch
import toy_pair

from ciba_bev.distillation.frozen_model import FrozenModel, fingerprint_of
from ciba_bev.errors import CibaError, ConfigError


@pytest.fixture
def teacher(pair):
    model = FrozenModel('teacher', **pair['teacher'])
    model.load()
    return model


def test_feature_is_that_of_the_model_in_evaluation_mode(teacher):
    batch = toy_pair.make_batch(0, 3)
    model = copy.deepcopy(teacher.model)
    expected = model.neck(model.backbone(torch.stack(batch['inputs']['lidar'])))[0]
    feature = teacher.feature(batch)
    torch.testing.assert_close(feature, expected)
    assert not feature.requires_grad


def test_weights_are_read_before_the_first_feature(teacher, pair):
    batch = toy_pair.make_batch(0, 3)
    unloaded = FrozenModel('teacher', **pair['teacher'])
    feature = unloaded.feature(batch)
    assert torch.equal(feature, teacher.feature(batch))
    assert unloaded.fingerprint == teacher.fingerprint


def test_it_runs_only_as_far_as_the_tap(teacher):
    teacher.feature(toy_pair.make_batch(0))
    assert teacher.model.head_calls == 0


def test_nothing_of_it_changes(teacher):
    before = copy.deepcopy(teacher.model.state_dict())
    for index in range(3):
        teacher.feature(toy_pair.make_batch(index))
    for name, value in teacher.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


def test_a_batch_is_left_as_it_was(teacher):
    batch = toy_pair.make_batch(0)
    lidar, sample = batch['inputs']['lidar'][0].clone(), batch['data_samples'][0]
    seen = {}

    def preprocess(data, training):
        seen.update(data)
        data['data_samples'][0].set_metainfo({'token': 'changed'})
        return original(data, training)

    original = teacher.model.data_preprocessor.forward
    teacher.model.data_preprocessor.forward = preprocess
    teacher.feature(batch)
    assert set(seen['inputs']) == {'lidar'}
    assert set(batch['inputs']) == {'lidar', 'camera'}
    assert torch.equal(batch['inputs']['lidar'][0], lidar)
    assert sample.token == 'sample-0'


def test_reduced_precision_is_returned_as_float32(pair):
    exact = FrozenModel('teacher', **pair['teacher'])
    reduced = FrozenModel('teacher', **pair['teacher'], precision='bfloat16')
    features = []
    for model in (exact, reduced):
        model.load()
        features.append(model.feature(toy_pair.make_batch(0, 1)))
    assert features[1].dtype == torch.float32
    assert not torch.equal(*features)
    torch.testing.assert_close(*features, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    ('capability', 'expected'), [((7, 5), torch.float16), ((8, 0), torch.bfloat16)]
)
def test_automatic_precision_is_one_that_the_device_has(pair, monkeypatch, capability, expected):
    """A GPU before Ampere emulates bfloat16, and torch calls that supported."""
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda *_, **__: True)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
    teacher = FrozenModel('teacher', **pair['teacher'])
    assert teacher._autocast_dtype(torch.device('cuda', 0)) == expected
    assert teacher._autocast_dtype(torch.device('cpu')) is None


def test_it_moves_once_to_a_device_without_an_index(teacher, monkeypatch):
    """Every step would go through all of its modules."""
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 1)
    moves, here = [], SimpleNamespace(device=torch.device('cpu'))

    def move(device):
        moves.append(device)
        here.device = device

    monkeypatch.setattr(teacher.model, 'parameters', lambda: iter([here]))
    monkeypatch.setattr(teacher.model, 'to', move)
    for _ in range(3):
        teacher.to(torch.device('cuda'))
    assert moves == [torch.device('cuda', 1)]


def test_fingerprint_knows_values_not_files(teacher, pair, tmp_path):
    weights = teacher.model.state_dict()
    assert fingerprint_of(weights) == fingerprint_of(dict(reversed(weights.items())))
    changed = copy.deepcopy(weights)
    changed['neck.lateral.bias'][0] += 1e-6
    assert fingerprint_of(weights) != fingerprint_of(changed)
    renamed = {f'{name}x': value for name, value in weights.items()}
    assert fingerprint_of(weights) != fingerprint_of(renamed)


def test_nan_names_the_samples(teacher):
    batch = toy_pair.make_batch(2, 5)
    batch['inputs']['lidar'][1][0, 0, 0] = float('nan')
    with pytest.raises(CibaError, match=r"teacher's feature at neck.*sample-2, sample-5"):
        teacher.feature(batch)


def test_missing_input(teacher):
    batch = toy_pair.make_batch(0)
    del batch['inputs']['lidar']
    with pytest.raises(ConfigError, match="reads 'lidar' but the batch has camera"):
        teacher.feature(batch)


def test_missing_checkpoint_names_the_command(pair, tmp_path):
    arguments = dict(pair['teacher'], checkpoint=str(tmp_path / 'nowhere.pth'))
    with pytest.raises(ConfigError, match=r'dist_train\.sh'):
        FrozenModel('teacher', **arguments).load()


def test_weights_of_another_model(pair):
    arguments = dict(pair['teacher'], checkpoint=pair['student']['checkpoint'])
    with pytest.raises(CibaError, match='not one of the model'):
        FrozenModel('teacher', **arguments).load()


def test_a_distilled_student_is_no_undistilled_one(pair, tmp_path):
    content = torch.load(pair['student']['checkpoint'], weights_only=True)
    content['distillation'] = {'kind': 'distilled student', 'method': 'MSELoss on a code of 4'}
    path = tmp_path / 'distilled.pth'
    torch.save(content, path)
    with pytest.raises(ConfigError, match='distilled with MSELoss on a code of 4'):
        FrozenModel('student', **dict(pair['student'], checkpoint=str(path))).load()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(tap=dict(module='nek')), 'Similar names: neck'),
        (dict(precision='int8'), 'precision'),
        (dict(config='configs/nowhere.py'), 'there is no config'),
    ],
)
def test_bad_arguments(pair, change, message):
    with pytest.raises(ConfigError, match=message):
        FrozenModel('teacher', **{**pair['teacher'], **change})
