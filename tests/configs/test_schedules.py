"""What the schedules do to rates and momentum, step by step."""

from __future__ import annotations

from math import cos, pi
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
STEPS_PER_EPOCH = 100


def values_of(name, model):
    """Rate and beta 1 of each part of a model at every step of a config's training."""
    config = Config.fromfile(CONFIGS / f'{name}.py', import_custom_modules=False)
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    schedulers = [
        PARAM_SCHEDULERS.build(
            scheduler, default_args=dict(optimizer=wrapper, epoch_length=STEPS_PER_EPOCH)
        )
        for scheduler in config.param_scheduler
    ]
    part_of = {id(value): key.split('.')[0] for key, value in model.named_parameters()}
    found = {}
    for _ in range(config.train_cfg.max_epochs * STEPS_PER_EPOCH):
        for group in wrapper.optimizer.param_groups:
            for part in {part_of[id(value)] for value in group['params']}:
                found.setdefault(part, []).append((group['lr'], *group['betas']))
        wrapper.step()
        for scheduler in schedulers:
            scheduler.step()
    return found


def parts(*names):
    return nn.ModuleDict({name: nn.Linear(1, 1, bias=False) for name in names})


def annealed(start, end, step, steps):
    return end + 0.5 * (start - end) * (cos(pi * step / steps) + 1)


def cyclic(value, peak_ratio, end_ratio):
    """mmdet 0.x's `cyclic_20e`: one cycle, 40 % of it towards the peak."""
    up, total = 8 * STEPS_PER_EPOCH, 20 * STEPS_PER_EPOCH
    peak, end = value * peak_ratio, value * end_ratio
    return [
        annealed(value, peak, step, up) if step < up else annealed(peak, end, step - up, total - up)
        for step in range(total)
    ]


@pytest.mark.parametrize(
    ('name', 'encoder_ratio'), [('objectdgcnn_voxel01', 1.0), ('objectdgcnn_pillar02', 0.1)]
)
def test_the_teacher_is_trained_in_one_cycle(name, encoder_ratio):
    found = values_of(name, parts('pts_voxel_encoder', 'pts_backbone', 'pts_bbox_head'))
    for part, values in found.items():
        rates, momenta, second = zip(*values)
        base = 1e-4 * (encoder_ratio if part == 'pts_voxel_encoder' else 1.0)
        # mmengine reaches the peak one step early and stays there for two.
        assert rates == pytest.approx(cyclic(base, 10, 1e-4), rel=1e-4)
        assert momenta == pytest.approx(cyclic(0.9, 0.85 / 0.95, 1.0), abs=1e-5)
        assert set(second) == {0.999}
        # In figures.
        up = 8 * STEPS_PER_EPOCH
        assert (rates[0], rates[up]) == pytest.approx((base, 10 * base), rel=1e-4)
        assert rates[-1] < 3e-4 * base
        assert momenta[0] == pytest.approx(0.9)
        assert momenta[up] == min(momenta) == pytest.approx(0.80526, abs=2e-5)
        assert momenta[-1] == pytest.approx(0.9, abs=1e-4)


def test_the_student_warms_up_and_follows_a_cosine():
    found = values_of('bevformer_r50', parts('img_backbone', 'pts_bbox_head'))
    total = 24 * STEPS_PER_EPOCH
    for part, values in found.items():
        base = 2e-4 * (0.1 if part == 'img_backbone' else 1.0)
        rates, momenta, second = zip(*values)
        assert rates[0] == pytest.approx(base / 3)
        expected = [annealed(base, 1e-3 * base, step, total) for step in range(500, total)]
        assert rates[500:] == pytest.approx(expected, rel=1e-3)
        assert set(momenta) == {0.9}
        assert set(second) == {0.999}


def test_the_small_teacher_keeps_one_rate_for_all_parts():
    found = values_of('quickstart_object_dgcnn', parts('pts_voxel_encoder', 'pts_backbone'))
    assert found['pts_backbone'] == found['pts_voxel_encoder']
