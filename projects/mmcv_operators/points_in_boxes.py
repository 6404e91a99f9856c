"""Which points lie in which boxes.

Boxes are x, y, z of the center of the bottom, dx, dy, dz and yaw in radians. Points on a side face
lie outside, on the bottom or the top inside.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .arrays import compiled, in_threads, to_array, uses_loops

# Points times boxes that PyTorch works on at once.
_PAIRS_AT_ONCE = 1 << 23


def points_in_boxes_cpu_forward(
    boxes_tensor: Tensor, pts_tensor: Tensor, pts_indices_tensor: Tensor
) -> None:
    """Find all boxes of each point of one sample.

    Args:
        boxes_tensor: (T, 7).
        pts_tensor: (M, 3).
        pts_indices_tensor: int32 (T, M), filled with 1 for a point in a box and 0 for others.
    """
    _fill_membership(boxes_tensor, pts_tensor, pts_indices_tensor)


def points_in_boxes_all_forward(
    boxes_tensor: Tensor, pts_tensor: Tensor, box_idx_of_points_tensor: Tensor
) -> None:
    """Find all boxes of each point.

    Args:
        boxes_tensor: (B, T, 7).
        pts_tensor: (B, M, 3).
        box_idx_of_points_tensor: int32 (B, M, T), filled with 1 for a point in a box and 0 for
            others.
    """
    for boxes, points, inside in zip(boxes_tensor, pts_tensor, box_idx_of_points_tensor):
        _fill_membership(boxes, points, inside.T)


def points_in_boxes_part_forward(
    boxes_tensor: Tensor, pts_tensor: Tensor, box_idx_of_points_tensor: Tensor
) -> None:
    """Find the first box of each point.

    Args:
        boxes_tensor: (B, T, 7).
        pts_tensor: (B, M, 3).
        box_idx_of_points_tensor: int32 (B, M), -1 throughout; filled with the index of the first
            box that a point lies in, and left at -1 for others.
    """
    for boxes, points, index in zip(boxes_tensor, pts_tensor, box_idx_of_points_tensor):
        inside = torch.zeros(len(boxes), len(points), dtype=torch.int32, device=points.device)
        _fill_membership(boxes, points, inside)
        for box in range(len(boxes) - 1, -1, -1):
            index.masked_fill_(inside[box] == 1, box)


def _fill_membership(boxes: Tensor, points: Tensor, inside: Tensor) -> None:
    """Fill ``inside`` (T, M), whatever its strides."""
    if uses_loops(points):
        arrays = to_array(boxes), to_array(points)
        in_threads(len(points), _check, *arrays, inside.numpy(), at_least=16384)
        return
    step = max(1, _PAIRS_AT_ONCE // max(1, len(points)))
    for first in range(0, len(boxes), step):
        inside[first : first + step] = _membership_of_tensors(boxes[first : first + step], points)


@compiled()
def _check(
    boxes: np.ndarray, points: np.ndarray, inside: np.ndarray, first: int, last: int
) -> None:
    for box in range(len(boxes)):
        half_x, half_y, half_z = boxes[box, 3] / 2, boxes[box, 4] / 2, boxes[box, 5] / 2
        middle = boxes[box, 2] + half_z
        cosine, sine = math.cos(-boxes[box, 6]), math.sin(-boxes[box, 6])
        for point in range(first, last):
            x, y = points[point, 0] - boxes[box, 0], points[point, 1] - boxes[box, 1]
            along, across = x * cosine - y * sine, x * sine + y * cosine
            inside[box, point] = (
                (abs(points[point, 2] - middle) <= half_z)
                & (-half_x < along)
                & (along < half_x)
                & (-half_y < across)
                & (across < half_y)
            )


def _membership_of_tensors(boxes: Tensor, points: Tensor) -> Tensor:
    half_x, half_y, half_z = (boxes[:, 3:6, None] / 2).unbind(1)
    x, y = points[:, 0] - boxes[:, :1], points[:, 1] - boxes[:, 1:2]
    cosine, sine = (-boxes[:, 6:]).cos(), (-boxes[:, 6:]).sin()
    along, across = x * cosine - y * sine, x * sine + y * cosine
    height = (points[:, 2] - (boxes[:, 2:3] + half_z)).abs() <= half_z
    return height & (along.abs() < half_x) & (across.abs() < half_y)
