"""Distillation losses against formulas written another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ciba_bev.distillation.losses import CLIPLoss, CrossEntropyLoss, MarginLoss, MSELoss
from ciba_bev.errors import ConfigError
from ciba_bev.registry import MODELS

LOSSES = [MSELoss, CrossEntropyLoss, CLIPLoss, MarginLoss]


def pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


@pytest.mark.parametrize('shape', [(3, 5), (3, 5, 4, 2)])
def test_mse_is_torchs(shape):
    student, target = pair(*shape)
    torch.testing.assert_close(MSELoss()(student, target), F.mse_loss(student, target))
    # Algorithm 2, line 3: the squared norm of the difference of two vectors.
    squared_norms = torch.linalg.vector_norm(student - target, dim=1) ** 2
    torch.testing.assert_close(MSELoss('sum')(student, target), squared_norms.mean())


def test_weighted_mse_divides_by_the_sum_of_the_weights():
    student, target = pair(2, 3, 4, 5)
    weight = torch.rand(2, 1, 4, 5, generator=torch.Generator().manual_seed(1))
    total, weights = 0.0, 0.0
    for b in range(2):
        for y in range(4):
            for x in range(5):
                cell = sum((student[b, c, y, x] - target[b, c, y, x]) ** 2 for c in range(3)) / 3
                total += weight[b, 0, y, x] * cell
                weights += weight[b, 0, y, x]
    torch.testing.assert_close(MSELoss()(student, target, weight), total / weights)


@pytest.mark.parametrize('loss', LOSSES)
def test_weights_choose_cells(loss):
    student, target = pair(3, 4, 2, 5)
    torch.testing.assert_close(
        loss()(student, target, torch.full((3, 1, 2, 5), 0.3)), loss()(student, target)
    )
    weight = torch.zeros(3, 1, 2, 5)
    weight[:, :, 1, 2] = 0.01
    expected = loss()(student[:, :, 1, 2], target[:, :, 1, 2])
    torch.testing.assert_close(loss()(student, target, weight), expected)


@pytest.mark.parametrize('loss', LOSSES)
def test_no_weight_at_all_gives_zero_and_no_gradient(loss):
    student, target = pair(3, 4, 2, 5)
    student.requires_grad_()
    value = loss()(student, target, torch.zeros(3, 1, 2, 5))
    value.backward()
    assert value == 0
    assert not student.grad.any()


@pytest.mark.parametrize('loss', LOSSES)
def test_a_grid_is_compared_cell_by_cell(loss):
    student, target = pair(3, 4, 2, 5)
    cells = [loss()(student[:, :, y, x], target[:, :, y, x]) for y in range(2) for x in range(5)]
    torch.testing.assert_close(loss()(student, target), torch.stack(cells).mean())


def test_cross_entropy_is_torchs_with_soft_labels():
    student, target = pair(6, 5)
    expected = F.cross_entropy(student, target.softmax(1))
    torch.testing.assert_close(CrossEntropyLoss()(student, target), expected)
    # Appendix E.5: the gradient for one sample is p - p'.
    student.requires_grad_()
    CrossEntropyLoss()(student, target).backward()
    expected = (student.softmax(1) - target.softmax(1)) / len(student)
    torch.testing.assert_close(student.grad, expected)


def test_clip_is_the_mean_of_two_classifications():
    student, target = pair(6, 5)
    a, b = (x.double().numpy() for x in (student, target))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    logits = a @ b.T / 0.2
    rows = [math.log(np.exp(logits[i]).sum()) - logits[i, i] for i in range(6)]
    columns = [math.log(np.exp(logits[:, i]).sum()) - logits[i, i] for i in range(6)]
    expected = (sum(rows) / 6 + sum(columns) / 6) / 2
    assert CLIPLoss(temperature=0.2)(student, target).item() == pytest.approx(expected, rel=1e-5)


def test_clip_needs_other_samples():
    with pytest.raises(ConfigError, match='at least two'):
        CLIPLoss()(*pair(1, 5))


def test_margin_leaves_close_features_alone():
    student, target = pair(50, 2)
    expected = (1 - F.cosine_similarity(student, target) - 0.3).clamp(min=0)
    assert 0 < (expected == 0).sum() < 50
    torch.testing.assert_close(MarginLoss(0.3)(student, target), expected.mean())
    # An angle of 25 degrees is within the default margin, 27 is beyond it; length does not matter.
    for degrees, positive in ((25, False), (27, True)):
        angle = math.radians(degrees)
        student = 7 * torch.tensor([[math.cos(angle), math.sin(angle)]])
        assert (MarginLoss()(student, torch.tensor([[1.0, 0.0]])) > 0) == positive


@pytest.mark.parametrize('loss', LOSSES)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_computed_in_float32(loss, dtype):
    student, target = (x.to(dtype) for x in pair(4, 6, 3))
    expected = loss()(student.float(), target.float())
    with torch.autocast('cpu', torch.bfloat16):
        value = loss()(student, target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize('loss', LOSSES)
@pytest.mark.parametrize('scale', [0.0, 1e-6, 1e6])
def test_gradients_stay_finite(loss, scale):
    student, target = (scale * x for x in pair(4, 6, 3))
    student.requires_grad_()
    value = loss()(student, target)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize('loss', LOSSES)
def test_wrong_shapes_are_named(loss):
    student, target = pair(2, 8, 3, 3)
    with pytest.raises(ConfigError, match=r'\(2, 8, 3, 3\) and its target \(2, 4, 3, 3\)'):
        loss()(student, target[:, :4])
    with pytest.raises(ConfigError, match=r'weight is \(2, 3, 3\)'):
        loss()(student, target, torch.ones(2, 3, 3))


def test_values_are_checked_and_configs_build():
    assert MODELS.build(dict(type='ciba_bev.MSELoss', reduction='sum')).reduction == 'sum'
    for build in (lambda: MSELoss('none'), lambda: CLIPLoss(0), lambda: MarginLoss(2.0)):
        with pytest.raises(ConfigError):
            build()
