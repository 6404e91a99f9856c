"""The teacher's start from parts of mmdet3d's CenterPoint."""

from __future__ import annotations

from pathlib import Path

import mmdet3d
import pytest
import torch
from mmdet3d.registry import MODELS as MMDET3D_MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

import ciba_bev.detection  # noqa: F401
from ciba_bev.checkpoints import parts
from ciba_bev.checkpoints.matching import check_pretrained_weights
from ciba_bev.checkpoints.parts import load_parts
from ciba_bev.errors import CibaError
from ciba_bev.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
CENTERPOINTS = Path(mmdet3d.__file__).parent / '.mim' / 'configs' / 'centerpoint'
# Of each teacher: the CenterPoint, and what the two have in common.
TEACHERS = {
    'objectdgcnn_voxel01': (
        'centerpoint_voxel01_second_secfpn_head-circlenms_8xb4-cyclic-20e_nus-3d.py',
        {'pts_middle_encoder', 'pts_backbone'},
        165,
    ),
    'objectdgcnn_pillar02': (
        'centerpoint_pillar02_second_secfpn_head-circlenms_8xb4-cyclic-20e_nus-3d.py',
        {'pts_voxel_encoder', 'pts_backbone'},
        85,
    ),
}


@pytest.fixture(scope='module', params=TEACHERS)
def pair(request):
    """Name of a teacher's config, its model's config, and a CenterPoint as mmdet3d builds it."""
    if not CENTERPOINTS.is_dir():
        pytest.skip(f'mmdet3d was installed without its configs ({CENTERPOINTS})')
    init_default_scope('mmdet3d')
    torch.manual_seed(1)
    centerpoint = MMDET3D_MODELS.build(
        Config.fromfile(CENTERPOINTS / TEACHERS[request.param][0]).model
    )
    for value in centerpoint.state_dict().values():
        if value.is_floating_point():
            nn.init.normal_(value)
    return request.param, Config.fromfile(CONFIGS / f'{request.param}.py').model, centerpoint


def started(config, path):
    torch.manual_seed(0)
    model = MODELS.build({**config, 'init_cfg': {**config.init_cfg, 'checkpoint': str(path)}})
    check_pretrained_weights(model)
    model.init_weights()
    return model


def test_common_parts_are_taken_over_and_nothing_else(pair, tmp_path, monkeypatch):
    name, config, centerpoint = pair
    _, common, number = TEACHERS[name]
    assert set(config.init_cfg.parts) == common
    lines = []
    monkeypatch.setattr(parts, 'print_log', lambda text, **_: lines.append(text))
    torch.save({'state_dict': centerpoint.state_dict()}, tmp_path / 'centerpoint.pth')
    model = started(config, tmp_path / 'centerpoint.pth')

    theirs, found = centerpoint.state_dict(), model.state_dict()
    torch.manual_seed(0)
    plain = MODELS.build({**config, 'init_cfg': None})
    plain.init_weights()
    for key, value in found.items():
        expected = theirs if key.split('.')[0] in common else plain.state_dict()
        torch.testing.assert_close(value, expected[key], rtol=0, atol=0, msg=key)

    counted = [key for key in found if not key.endswith('num_batches_tracked')]
    assert len(lines) == 1
    assert '\n' not in lines[0]
    assert f'{number} entries are taken over' in lines[0]
    assert f"model's other {len(counted) - number} start at random" in lines[0]


def test_files_of_other_operators_are_converted(pair, tmp_path):
    """spconv 1 and mmcv store kernels otherwise; mmdet3d's own loading tells what is right."""
    name, config, centerpoint = pair
    state = dict(centerpoint.state_dict())
    kernels = [key for key, value in state.items() if value.dim() == 5]
    assert bool(kernels) == (name == 'objectdgcnn_voxel01')
    for key in kernels:
        # (out, z, y, x, in) to (z, y, x, in, out)
        state[key] = state[key].permute(1, 2, 3, 4, 0).contiguous()
    if name == 'objectdgcnn_pillar02':
        key = 'pts_voxel_encoder.pfn_layers.0.linear.weight'
        state[key] = state[key][:, :-1].clone()
    torch.save({'state_dict': state}, tmp_path / 'old.pth')
    found = started(config, tmp_path / 'old.pth').state_dict()
    reference = dict(centerpoint.state_dict())
    if name == 'objectdgcnn_pillar02':
        reference[key] = torch.cat((state[key], torch.zeros(64, 1)), dim=1)
    else:
        loaded = MMDET3D_MODELS.build(Config.fromfile(CENTERPOINTS / TEACHERS[name][0]).model)
        # Without notes on versions, mmdet3d takes kernels for those of mmcv.
        loaded.load_state_dict(state)
        reference = loaded.state_dict()
    for key in reference:
        if key.split('.')[0] in TEACHERS[name][1]:
            torch.testing.assert_close(found[key], reference[key], rtol=0, atol=0, msg=key)


def test_the_layout_of_mmcv_is_made_from_that_of_spconv_2():
    class SparseStandIn(nn.Module):
        def __init__(self, shape):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(shape))

    kernel = torch.randn(16, 3, 1, 1, 5)
    model = nn.ModuleDict({'pts_middle_encoder': SparseStandIn((3, 1, 1, 5, 16))})
    weights = {'pts_middle_encoder.weight': kernel}
    chosen = parts.matching_parts(model, weights, ['pts_middle_encoder'], 'x.pth')
    z, y, x, inputs, outputs = 2, 0, 0, 4, 11
    assert chosen['pts_middle_encoder.weight'][z, y, x, inputs, outputs] == kernel[11, 2, 0, 0, 4]


@pytest.mark.parametrize('change', ['missing', 'other shape', 'other names'])
def test_half_a_part_is_refused(tmp_path, change):
    model = nn.ModuleDict({'head': nn.Linear(3, 2), 'backbone': nn.Linear(4, 3)})
    state = dict(model.state_dict())
    if change == 'missing':
        del state['backbone.bias']
    elif change == 'other shape':
        state['backbone.weight'] = torch.zeros(3, 5)
    else:
        state = {f'model.{name}': value for name, value in state.items()}
    torch.save(state, tmp_path / 'other.pth')
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CibaError, match=r'(?s)other\.pth.*backbone.*init_cfg=None'):
        load_parts(model, str(tmp_path / 'other.pth'), ['backbone'])
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_frozen_teacher_needs_no_start(monkeypatch, pair):
    """Bottleneck and CIBA configs build the teacher and load its own checkpoint."""
    from ciba_bev.distillation.frozen_model import FrozenModel

    name, config, _ = pair
    monkeypatch.setattr(
        parts.CheckpointLoader, 'load_checkpoint', lambda *_, **__: pytest.fail('fetches a file')
    )
    teacher = FrozenModel(
        'teacher', str(CONFIGS / f'{name}.py'), 'epoch_20.pth', tap=dict(module='pts_neck', index=0)
    )
    trained = {'state_dict': MODELS.build({**config, 'init_cfg': None}).state_dict()}
    monkeypatch.setattr(parts.CheckpointLoader, 'load_checkpoint', lambda *_, **__: trained)
    teacher.checkpoint = 'file://epoch_20.pth'
    teacher.load()
