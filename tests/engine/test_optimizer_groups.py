"""One parameter group for each distinct setting, and the same updates."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import DefaultOptimWrapperConstructor, build_optim_wrapper
from torch import nn

from ciba_bev.engine.optimizer_groups import (
    GroupedOptimWrapperConstructor,
    has_fused_kernel,
    merge_groups,
)
from ciba_bev.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
CLIP = dict(max_norm=0.5, norm_type=2)
RULES = dict(
    custom_keys={'backbone': dict(lr_mult=0.1), 'head': dict(lr_mult=1.0)}, norm_decay_mult=0.0
)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 8))
        self.neck = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.neck(self.backbone(x).relu()))


def build(constructor, model, **optimizer):
    optimizer = dict(dict(type='AdamW', lr=1e-2, weight_decay=0.1), **optimizer)
    cfg = dict(type='OptimWrapper', optimizer=optimizer, clip_grad=CLIP)
    return constructor(cfg, copy.deepcopy(RULES))(model)


@pytest.mark.parametrize('optimizer', [dict(), dict(type='SGD', momentum=0.9)])
def test_updates_are_those_of_one_group_a_parameter(optimizer):
    torch.manual_seed(0)
    ours = Network()
    theirs = copy.deepcopy(ours)
    wrappers = [
        build(GroupedOptimWrapperConstructor, ours, **optimizer),
        build(DefaultOptimWrapperConstructor, theirs, **optimizer),
    ]
    # Backbone, norm of the neck, its linear layer with the head, whose factor is 1.
    assert [len(wrapper.optimizer.param_groups) for wrapper in wrappers] == [3, 12]
    start = copy.deepcopy(ours.state_dict())
    for _ in range(6):
        x = torch.randn(4, 5)
        for model, wrapper in zip((ours, theirs), wrappers):
            wrapper.update_params(model(x).square().mean())
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-7)
        assert not torch.equal(value, start[name])


def test_groups_with_another_setting_are_kept_apart():
    values = [nn.Parameter(torch.zeros(1)) for _ in range(5)]
    settings = [
        dict(lr=1.0, lr_mult=1.0),
        dict(lr=0.1, lr_mult=0.1),
        dict(),
        dict(lr=0.1, decay_mult=2),
        dict(betas=(0.8, 0.9)),
    ]
    groups = [dict(setting, params=[value]) for setting, value in zip(settings, values)]
    merged = merge_groups(groups, lr=1.0)
    assert merged == [
        dict(lr=1.0, params=[values[0], values[2]]),
        dict(lr=0.1, params=[values[1], values[3]]),
        dict(lr=1.0, betas=(0.8, 0.9), params=[values[4]]),
    ]
    assert [len(group['params']) for group in groups] == [1] * 5


def test_frozen_parameters_stay_out():
    model = Network()
    model.backbone.requires_grad_(False)
    groups = build(GroupedOptimWrapperConstructor, model).optimizer.param_groups
    held = {id(value) for group in groups for value in group['params']}
    assert held == {id(value) for value in model.parameters() if value.requires_grad}


def test_a_fused_kernel_is_used_where_torch_has_one():
    cpu = {torch.device('cpu')}
    expected = has_fused_kernel(torch.optim.AdamW, cpu)
    # Torch has had it on a CPU since 2.4.
    assert expected == (torch.__version__ >= '2.4')
    assert not has_fused_kernel(torch.optim.RMSprop, cpu)
    chosen = build(GroupedOptimWrapperConstructor, Network()).optimizer.defaults
    assert bool(chosen['fused']) == expected
    kept = build(GroupedOptimWrapperConstructor, Network(), foreach=True).optimizer.defaults
    assert (bool(kept['fused']), kept['foreach']) == (False, True)


@pytest.mark.parametrize(
    ('name', 'rates'),
    [
        ('bevformer_r50', [2e-5, 2e-4]),
        ('objectdgcnn_voxel01', [1e-4]),
        ('objectdgcnn_pillar02', [1e-5, 1e-4]),
        ('quickstart_bevformer', [1e-3]),
        ('quickstart_object_dgcnn', [1e-3]),
    ],
)
def test_the_detectors_have_a_group_a_rate(name, rates):
    config = Config.fromfile(CONFIGS / f'{name}.py', import_custom_modules=False)
    with MODELS.switch_scope_and_registry('mmdet3d') as registry:
        model = registry.build(config.model)
    groups = build_optim_wrapper(model, config.optim_wrapper).optimizer.param_groups
    assert sorted(group['lr'] for group in groups) == pytest.approx(rates)
    trained = sum(len(group['params']) for group in groups)
    assert trained >= sum(value.requires_grad for value in model.parameters()) > 100
