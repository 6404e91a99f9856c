from __future__ import annotations

import math

import pytest
import torch

NAMES = ('random', 'no points', 'no boxes', 'all outside', 'zero size', 'on the faces')


def sample(name: str):
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(400, 3, generator=generator) * torch.tensor([6, 6, 1.0])
    boxes = torch.rand(12, 7, generator=generator) * torch.tensor([12, 12, 2, 8, 4, 3, 6.3])
    boxes = boxes - torch.tensor([6, 6, 2, 0, 0, 0, 0])
    if name == 'no points':
        points = points[:0]
    elif name == 'no boxes':
        boxes = boxes[:0]
    elif name == 'all outside':
        points[:, 0] += 1000
    elif name == 'zero size':
        boxes[::2, 3:6] = 0
    elif name == 'on the faces':
        boxes[:, :6] = boxes[:, :6].round()
        boxes[:, 6] = 0
        points = (points * 2).round() / 2
    return points, boxes


@pytest.mark.parametrize('name', NAMES)
def test_all_boxes_of_each_point_are_those_of_the_compiled_operator(compiled, ours, name):
    points, boxes = sample(name)
    results = [torch.full((len(boxes), len(points)), 7, dtype=torch.int32) for _ in range(2)]
    for extension, inside in zip((compiled, ours), results):
        extension.points_in_boxes_cpu_forward(boxes, points, inside)
    assert torch.equal(*results)


@pytest.mark.parametrize('name', NAMES)
def test_points_of_turned_boxes(ours, name):
    points, boxes = sample(name)
    inside = torch.zeros(1, len(points), len(boxes), dtype=torch.int32)
    ours.points_in_boxes_all_forward(boxes[None], points[None], inside)
    first = torch.full((1, len(points)), -1, dtype=torch.int32)
    ours.points_in_boxes_part_forward(boxes[None], points[None], first)
    for i, (px, py, pz) in enumerate(points.tolist()):
        expected = []
        for x, y, z, length, width, height, yaw in boxes.tolist():
            along = math.cos(yaw) * (px - x) + math.sin(yaw) * (py - y)
            across = -math.sin(yaw) * (px - x) + math.cos(yaw) * (py - y)
            beside = abs(along) < length / 2 and abs(across) < width / 2
            expected.append(beside and 0 <= pz - z <= height)
        assert inside[0, i].tolist() == expected
        assert first[0, i] == (expected.index(True) if any(expected) else -1)


def test_mmcv_finds_points_with_it(ours_in_mmcv):
    from mmcv.ops import points_in_boxes_cpu

    points = torch.tensor([[[0, 0, 0.5], [3, 0, 0.5], [0, 0, -1]]])
    boxes = torch.tensor([[[0, 0, 0, 4, 2, 1, 0], [0, 0, 0, 2, 8, 1, 3.14159265 / 2]]])
    assert points_in_boxes_cpu(points, boxes)[0].tolist() == [[1, 1], [0, 1], [0, 0]]
