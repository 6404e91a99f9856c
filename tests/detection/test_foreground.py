"""Weights around objects lie where the boxes are."""

import numpy as np
import pytest
import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.structures import InstanceData

from ciba_bev.detection.foreground import GaussianForeground

RANGE = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)


def sample(*boxes):
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 7)
    result = Det3DDataSample()
    result.gt_instances_3d = InstanceData(bboxes_3d=LiDARInstance3DBoxes(tensor))
    return result


def draw(*boxes, **options):
    return GaussianForeground(RANGE, **options)([sample(*boxes)], (128, 128))[0, 0]


@pytest.mark.parametrize(('x', 'y'), [(10.0, -20.0), (-50.9, 50.9), (0.1, 0.1)])
def test_the_peak_is_in_the_cell_of_the_centre(x, y):
    weight = draw((x, y, 0, 4.5, 2.0, 1.6, 0.4))
    row, column = divmod(int(weight.argmax()), 128)
    assert (row, column) == (int((y + 51.2) / 0.8), int((x + 51.2) / 0.8))
    assert float(weight.max()) == 1


def test_the_bump_is_a_gaussian_as_wide_as_its_radius_says():
    weight = draw((0.4, 0.4, 0, 12.0, 12.0, 3.0, 0.0))
    row = weight[64].numpy()
    inside = np.flatnonzero(row)
    radius = (len(inside) - 1) // 2
    offsets = inside - 64
    sigma = (2 * radius + 1) / 6
    np.testing.assert_allclose(row[inside], np.exp(-(offsets**2) / (2 * sigma**2)), rtol=1e-5)
    # Two 15-cell squares a diagonal step of the radius apart overlap by just the least allowed.
    overlap = (15 - radius) ** 2 / (2 * 15**2 - (15 - radius) ** 2)
    assert overlap >= 0.1
    assert (15 - radius - 1) ** 2 / (2 * 15**2 - (15 - radius - 1) ** 2) < 0.35


def test_small_boxes_have_at_least_the_least_radius():
    weight = draw((0.4, 0.4, 0, 0.3, 0.3, 1.0, 0.0), min_radius=2)
    assert int((weight[64] > 0).sum()) == 5


def test_the_larger_of_two_overlapping_bumps_counts():
    one, other = (0.4, 0.4, 0, 4.0, 4.0, 2.0, 0.0), (2.0, 0.4, 0, 4.0, 4.0, 2.0, 0.0)
    torch.testing.assert_close(draw(one, other), torch.maximum(draw(one), draw(other)))


def test_no_boxes_and_boxes_outside_weigh_nothing():
    assert float(draw().sum()) == 0
    assert float(draw((60.0, 0.0, 0, 4.0, 2.0, 2.0, 0.0)).sum()) == 0


def test_every_sample_has_its_own():
    car = (10.0, 10.0, 0, 4.0, 2.0, 2.0, 0.0)
    weights = GaussianForeground(RANGE)([sample(car), sample()], (64, 128))
    assert weights.shape == (2, 1, 64, 128)
    assert float(weights[0].max()) == 1
    assert float(weights[1].max()) == 0
