from __future__ import annotations

import math

import pytest
import torch
from shapely import affinity, geometry

from mmcv_operators.box_overlap import pairwise_overlaps


def rectangles(name: str, seed: int):
    """x, y, width, height and angle of boxes, of which many overlap."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(40, 5, generator=generator) * torch.tensor([8, 8, 5, 3, 6.3])
    boxes = boxes - torch.tensor([4, 4, 0, 0, 3.2])
    if name == 'no boxes':
        return boxes[:0]
    if name == 'zero size':
        boxes[::2, 2] = 0
        boxes[1::4, 3] = 0
    elif name == 'right angles':
        boxes[:, 4] = (boxes[:, 4] / (math.pi / 2)).round() * (math.pi / 2)
        boxes[:, :4] = boxes[:, :4].round()
    elif name == 'far from the origin':
        boxes[:, :2] += 1000
    return boxes


def pairs(name: str):
    first, second = rectangles(name, 0), rectangles(name, 1)
    if name == 'equal':
        # Also turned by a right angle, with width and height exchanged: the same rectangle.
        second = first.clone()
        second[::2, 2:4] = second[::2, 2:4].flip(1)
        second[::2, 4] += math.pi / 2
    return first, second


NAMES = ('random', 'no boxes', 'zero size', 'right angles', 'equal', 'far from the origin')


def polygon(box):
    x, y, width, height, angle = box.tolist()
    upright = geometry.box(-width / 2, -height / 2, width / 2, height / 2)
    turned = affinity.rotate(upright, angle, origin=(0, 0), use_radians=True)
    return affinity.translate(turned, x, y)


def by_shapely(first, second):
    rows, columns = ([polygon(box) for box in boxes] for boxes in (first, second))
    areas = [[row.intersection(column).area for column in columns] for row in rows]
    return torch.tensor(areas, dtype=torch.float64).view(len(first), len(second))


@pytest.mark.parametrize('name', NAMES)
def test_overlaps_are_those_of_polygons(ours, name):
    first, second = (boxes.double() for boxes in pairs(name))
    expected = by_shapely(first, second)
    torch.testing.assert_close(pairwise_overlaps(first, second), expected, rtol=1e-9, atol=1e-9)
    aligned = pairwise_overlaps(first, second, aligned=True)
    torch.testing.assert_close(aligned, expected.diagonal(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('name', NAMES)
def test_single_precision_loses_little(ours, name):
    first, second = pairs(name)
    expected = by_shapely(first, second)
    torch.testing.assert_close(
        pairwise_overlaps(first, second).double(), expected, rtol=1e-5, atol=2e-5
    )


@pytest.mark.parametrize('aligned', [False, True])
@pytest.mark.parametrize('mode', ['iou', 'iof'])
# Where edges coincide, the compiled operator loses corners of the polygons it builds: its result
# is off by up to 0.15. Ours is compared with exact polygons above.
@pytest.mark.parametrize('name', ['random', 'no boxes', 'zero size', 'far from the origin'])
def test_ious_are_those_of_the_compiled_operator(compiled, ours, name, mode, aligned):
    first, second = pairs(name)
    results = []
    for extension in (compiled, ours):
        ious = first.new_zeros(len(first) if aligned else len(first) * len(second))
        extension.box_iou_rotated(
            first, second, ious, mode_flag=['iou', 'iof'].index(mode), aligned=aligned
        )
        results.append(ious)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_boxes_without_area_have_no_iou(ours):
    boxes = torch.tensor([[0, 0, 0, 2, 0], [0, 0, 2, 2, 0.0]])
    ious = torch.full((4,), 7.0)
    ours.box_iou_rotated(boxes, boxes, ious, 0, False)
    assert ious.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize('name', NAMES)
def test_overlaps_in_birds_eye_view(ours, name):
    first, second = pairs(name)
    boxes = [
        torch.cat((b[:, :2], torch.ones(len(b), 1), b[:, 2:4], torch.ones(len(b), 1), b[:, 4:]), 1)
        for b in (first, second)
    ]
    overlaps = torch.full((len(first), len(second)), 7.0)
    ours.iou3d_boxes_overlap_bev_forward(*boxes, overlaps)
    expected = by_shapely(first, second).float()
    torch.testing.assert_close(overlaps, expected, rtol=1e-5, atol=2e-5)


def test_mmcv_compares_boxes_with_it(ours_in_mmcv):
    from mmcv.ops import box_iou_rotated, boxes_iou3d

    boxes = torch.tensor([[0, 0, 0, 4, 2, 2, 0.3], [0, 0, 1, 4, 2, 2, 0.3]])
    torch.testing.assert_close(
        boxes_iou3d(boxes, boxes), torch.tensor([[1, 1 / 3], [1 / 3, 1]]), rtol=1e-5, atol=1e-6
    )
    bev = boxes[:, [0, 1, 3, 4, 6]]
    torch.testing.assert_close(box_iou_rotated(bev, bev), torch.ones(2, 2), rtol=1e-5, atol=1e-6)
