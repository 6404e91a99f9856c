"""The remaining loss against that of the optimum itself, which is Lemma 1 as it is written."""

import pytest
import torch

from ciba_bev.analysis import limiting_distillation_loss
from ciba_bev.classification.synthetic import make_modalities
from ciba_bev.errors import ConfigError


def draw_weight(dims: int = 8):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(6, dims, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize('general_dims', [0, 3, 8])
def test_the_loss_that_remains(general_dims):
    """Corollary 1.1."""
    weight = draw_weight()
    pair = make_modalities(general_dims, dims=8, samples=50, seed=1)
    teacher, student = pair.teacher.double(), pair.student.double()
    optimum = weight @ teacher @ student.T @ torch.linalg.inv(student @ student.T)
    loss = 0.5 * (weight @ teacher - optimum @ student).square().sum()
    limit = limiting_distillation_loss(weight, teacher, general_dims)
    assert limit.item() == pytest.approx(loss.item(), rel=1e-5, abs=1e-5)


def test_leading_axes_are_batches():
    weights, data = torch.randn(3, 2, 6, 4), torch.randn(3, 2, 4, 9)
    limits = limiting_distillation_loss(weights, data, 1)
    assert limits.shape == (3, 2)
    torch.testing.assert_close(
        limits[2, 1], limiting_distillation_loss(weights[2, 1], data[2, 1], 1)
    )


def test_says_what_is_wrong():
    weight = draw_weight(5)
    with pytest.raises(ConfigError, match=r'\(6, 5\) and its data \(4, 40\)'):
        limiting_distillation_loss(weight, torch.zeros(4, 40), 2)
    with pytest.raises(ConfigError, match='general_dims is 6; the data have 5'):
        limiting_distillation_loss(weight, torch.zeros(5, 40), 6)
