"""Overlap of rotated rectangles: areas and intersections over union.

The area that a rectangle shares with another one, whose edges lie along the axes after a change of
coordinates, is an integral along the first one's boundary: of x dy, with x and y clamped to the
second one (Green's theorem). Along an edge the clamped x and y are linear between the points where
the edge crosses a bound, so that a trapezoid for each piece gives the exact area. There is no
polygon to build and nothing to decide: a rounding error moves the area by as little as itself, also
for boxes that share edges.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .arrays import compiled, in_threads, to_array, uses_loops

# Pairs of boxes that PyTorch works on at once: half a gigabyte of intermediate results.
_PAIRS_AT_ONCE = 1 << 20
_SMALLEST_AREA = 1e-14


def box_iou_rotated(
    boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool
) -> None:
    """Compute intersections over union, or over the first box.

    Args:
        boxes1: (N, 5), x and y of the center, width, height and angle in radians.
        boxes2: (M, 5).
        ious: Filled with float32 (N * M,), or (N,) for aligned boxes; 0 for a box without area.
        mode_flag: 0 for intersection over union, 1 for intersection over the area of ``boxes1``.
        aligned: Whether to compare each box with the one at its index in ``boxes2``, instead of
            all with all.
    """
    overlaps = pairwise_overlaps(boxes1, boxes2, aligned)
    first, second = (boxes[:, 2] * boxes[:, 3] for boxes in (boxes1, boxes2))
    if not aligned:
        first, second = first[:, None], second[None]
    base = first if mode_flag == 1 else first + second - overlaps
    empty = (first < _SMALLEST_AREA) | (second < _SMALLEST_AREA)
    ious.copy_(torch.where(empty, 0, overlaps / base).view_as(ious))


def iou3d_boxes_overlap_bev_forward(boxes_a: Tensor, boxes_b: Tensor, ans_iou: Tensor) -> None:
    """Compute the areas that boxes share in bird's-eye view.

    mmcv counts corners that are up to 1 cm outside of the other box as inside; these areas are
    exact.

    Args:
        boxes_a: (N, 7), x, y, z, dx, dy, dz and yaw in radians.
        boxes_b: (M, 7).
        ans_iou: Filled with the areas, float32 (N, M), in the square of the boxes' unit.
    """
    ans_iou.copy_(pairwise_overlaps(bev_rectangles(boxes_a), bev_rectangles(boxes_b)))


def bev_rectangles(boxes: Tensor) -> Tensor:
    """Return x, y, dx, dy and yaw (N, 5) of x, y, z, dx, dy, dz and yaw (N, 7)."""
    return torch.cat((boxes[:, :2], boxes[:, 3:5], boxes[:, 6:7]), 1)


def pairwise_overlaps(boxes1: Tensor, boxes2: Tensor, aligned: bool = False) -> Tensor:
    """Return the areas that rectangles share.

    Args:
        boxes1: (N, 5), x and y of the center, width, height and angle in radians.
        boxes2: (M, 5).
        aligned: Whether to compare each box with the one at its index in ``boxes2``.

    Returns:
        (N, M), or (N,) for aligned boxes, in the dtype of ``boxes1``.
    """
    shape = (len(boxes1),) if aligned else (len(boxes1), len(boxes2))
    if uses_loops(boxes1):
        areas = torch.zeros(shape, dtype=torch.float64)
        arrays = (to_array(boxes.double()) for boxes in (boxes1, boxes2))
        in_threads(areas.numel(), _fill, *arrays, aligned, areas.view(-1).numpy(), at_least=2048)
        return areas.to(boxes1.dtype)
    areas = boxes1.new_zeros(shape)
    pair = torch.arange(areas.numel(), device=boxes1.device)
    for some in pair.split(_PAIRS_AT_ONCE):
        one = some if aligned else some // len(boxes2)
        other = some if aligned else some % len(boxes2)
        areas.view(-1)[some] = _overlaps_of_tensors(boxes1[one], boxes2[other])
    return areas


@compiled()
def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the area that two rectangles share, both x, y, width, height and angle."""
    x, y = one[0] - other[0], one[1] - other[1]
    reach = 0.5 * (math.sqrt(one[2] ** 2 + one[3] ** 2) + math.sqrt(other[2] ** 2 + other[3] ** 2))
    if x * x + y * y > reach * reach:
        return 0.0
    # Where the axes of the other box are those of the plane, and its center is the origin.
    cosine, sine = math.cos(other[4]), math.sin(other[4])
    x, y = cosine * x + sine * y, cosine * y - sine * x
    right, top = 0.5 * abs(other[2]), 0.5 * abs(other[3])
    cosine, sine = math.cos(one[4] - other[4]), math.sin(one[4] - other[4])
    width_x, width_y = cosine * abs(one[2]), sine * abs(one[2])
    height_x, height_y = -sine * abs(one[3]), cosine * abs(one[3])
    area = 0.0
    for sign in (1.0, -1.0):  # bottom and right, then top and left
        area += _along_edge(
            x - sign * 0.5 * (width_x + height_x),
            y - sign * 0.5 * (width_y + height_y),
            *(sign * width_x, sign * width_y, right, top),
        )
        area += _along_edge(
            x + sign * 0.5 * (width_x - height_x),
            y + sign * 0.5 * (width_y - height_y),
            *(sign * height_x, sign * height_y, right, top),
        )
    return max(area, 0.0)


@compiled()
def _along_edge(
    x: float, y: float, step_x: float, step_y: float, right: float, top: float
) -> float:
    """Integrate clamped x over clamped y from (x, y) to (x + step_x, y + step_y)."""
    y_enters, y_leaves = _crossings(y, step_y, top)
    x_enters, x_leaves = _crossings(x, step_x, right)
    stops = (
        y_enters,
        min(max(x_enters, y_enters), y_leaves),
        min(max(x_leaves, y_enters), y_leaves),
        y_leaves,
    )
    total = 0.0
    last_x = min(max(x + y_enters * step_x, -right), right)
    last_y = min(max(y + y_enters * step_y, -top), top)
    for stop in stops[1:]:
        next_x = min(max(x + stop * step_x, -right), right)
        next_y = min(max(y + stop * step_y, -top), top)
        total += 0.5 * (last_x + next_x) * (next_y - last_y)
        last_x, last_y = next_x, next_y
    return total


@compiled()
def _crossings(start: float, step: float, bound: float) -> tuple[float, float]:
    """Where, from 0 to 1, an edge enters and leaves the strip between ``-bound`` and ``bound``."""
    if step == 0:
        return 0.0, 1.0
    one, other = (-bound - start) / step, (bound - start) / step
    return min(max(min(one, other), 0.0), 1.0), min(max(max(one, other), 0.0), 1.0)


@compiled()
def _fill(
    boxes1: np.ndarray,
    boxes2: np.ndarray,
    aligned: bool,
    areas: np.ndarray,
    first: int,
    last: int,
) -> None:
    for pair in range(first, last):
        if aligned:
            areas[pair] = overlap(boxes1[pair], boxes2[pair])
        else:
            areas[pair] = overlap(boxes1[pair // len(boxes2)], boxes2[pair % len(boxes2)])


def _overlaps_of_tensors(one: Tensor, other: Tensor) -> Tensor:
    """:func:`overlap` for pairs of rectangles, (N, 5) each, on any device."""
    x, y = (one[:, :2] - other[:, :2]).unbind(1)
    cosine, sine = other[:, 4].cos(), other[:, 4].sin()
    x, y = cosine * x + sine * y, cosine * y - sine * x
    right, top = (0.5 * other[:, 2:4].abs()).unbind(1)
    angle = one[:, 4] - other[:, 4]
    width, height = one[:, 2:4].abs().unbind(1)
    width_x, width_y = angle.cos() * width, angle.sin() * width
    height_x, height_y = -angle.sin() * height, angle.cos() * height
    signs = x.new_tensor([1, -1])[:, None]
    bottom_and_top = (
        *(x - signs * 0.5 * (width_x + height_x), y - signs * 0.5 * (width_y + height_y)),
        *(signs * width_x, signs * width_y),
    )
    right_and_left = (
        *(x + signs * 0.5 * (width_x - height_x), y + signs * 0.5 * (width_y - height_y)),
        *(signs * height_x, signs * height_y),
    )
    x, y, step_x, step_y = (torch.cat(both) for both in zip(bottom_and_top, right_and_left))
    y_enters, y_leaves = _crossings_of_tensors(y, step_y, top)
    x_enters, x_leaves = _crossings_of_tensors(x, step_x, right)
    stops = torch.stack(
        (
            y_enters,
            torch.minimum(torch.maximum(x_enters, y_enters), y_leaves),
            torch.minimum(torch.maximum(x_leaves, y_enters), y_leaves),
            y_leaves,
        )
    )
    x = torch.minimum(torch.maximum(x + stops * step_x, -right), right)
    y = torch.minimum(torch.maximum(y + stops * step_y, -top), top)
    pieces = 0.5 * (x[:-1] + x[1:]) * (y[1:] - y[:-1])
    return pieces.sum((0, 1)).clamp(min=0)


def _crossings_of_tensors(start: Tensor, step: Tensor, bound: Tensor) -> tuple[Tensor, Tensor]:
    level = step == 0
    step = torch.where(level, 1, step)
    one, other = (-bound - start) / step, (bound - start) / step
    enters = torch.minimum(one, other).clamp(0, 1)
    leaves = torch.maximum(one, other).clamp(0, 1)
    return torch.where(level, 0, enters), torch.where(level, 1, leaves)
