"""Non-maximum suppression: of the boxes that overlap, the one with the highest score stays."""

from __future__ import annotations

from typing import Callable

import numpy as np
import torch
from torch import Tensor

from .arrays import compiled, to_array, uses_loops
from .box_overlap import bev_rectangles, overlap, pairwise_overlaps

_SMALLEST_AREA = 1e-14
_SMALLEST_UNION = 1e-8


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Suppress boxes with edges along the axes.

    Args:
        boxes: (N, 4), the lower x and y, then the upper ones.
        scores: (N,).
        iou_threshold: A box goes if its intersection over union with a kept one is higher.
        offset: Added to widths and heights, 0 or 1.

    Returns:
        Indices of the kept boxes, int64, the highest score first.
    """
    order = scores.sort(0, descending=True)[1]
    boxes = boxes.detach()[order]
    if uses_loops(boxes):
        return order[torch.from_numpy(_keep(to_array(boxes), iou_threshold, offset, 0.0))]

    def suppressed(some: slice) -> Tensor:
        return _ious_of_tensors(boxes[some], boxes, offset) > iou_threshold

    return order[_keep_of_tensors(len(boxes), suppressed)]


def nms_rotated(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    labels: Tensor,
    iou_threshold: float,
    multi_label: bool,
) -> Tensor:
    """Suppress rotated boxes.

    mmcv's operator for the CPU takes no notice of labels. This one does, as mmcv's for GPUs.

    Args:
        dets: (N, 5), x and y of the center, width, height and angle in radians; or (N, 6), the
            label last.
        scores: (N,).
        order: Unused, as ``dets_sorted``: both follow from the scores.
        dets_sorted: See ``order``.
        labels: Unused, as they are part of ``dets``.
        iou_threshold: A box goes if its intersection over union with a kept one is as high (on
            the CPU) or higher (elsewhere): mmcv's two operators differ in this.
        multi_label: Whether only boxes of the same label suppress each other.

    Returns:
        Indices of the kept boxes, int64, the highest score first.
    """
    order = scores.sort(0, descending=True)[1]
    dets = dets.detach()[order]
    if not multi_label:
        dets = torch.cat((dets[:, :5], dets.new_zeros(len(dets), 1)), 1)
    if uses_loops(dets):
        # The threshold has mmcv's precision.
        arguments = to_array(dets.double()), float(np.float32(iou_threshold)), True, 0.0
        return order[torch.from_numpy(_keep_rotated(*arguments))]
    areas = dets[:, 2] * dets[:, 3]

    def suppressed(some: slice) -> Tensor:
        shared = pairwise_overlaps(dets[some], dets)
        ious = shared / (areas[some, None] + areas - shared)
        empty = (areas[some, None] < _SMALLEST_AREA) | (areas < _SMALLEST_AREA)
        return (ious > iou_threshold) & ~empty & (dets[some, 5:] == dets[:, 5])

    return order[_keep_of_tensors(len(dets), suppressed)]


def iou3d_nms3d_forward(
    boxes: Tensor, keep: Tensor, num_out: Tensor, nms_overlap_thresh: float
) -> None:
    """Suppress boxes by their overlap in bird's-eye view.

    Args:
        boxes: (N, 7), x, y, z, dx, dy, dz and yaw in radians, the highest score first.
        keep: int64 (N,), filled with the indices of the kept boxes.
        num_out: Filled with the number of kept boxes, int64 without dimensions.
        nms_overlap_thresh: A box goes if its intersection over union with a kept one is higher.
    """
    boxes = bev_rectangles(boxes.detach())
    if uses_loops(boxes):
        boxes = torch.cat((boxes, boxes.new_zeros(len(boxes), 1)), 1)
        arguments = to_array(boxes.double()), nms_overlap_thresh, False, _SMALLEST_UNION
        _fill(torch.from_numpy(_keep_rotated(*arguments)).nonzero()[:, 0], keep, num_out)
        return
    areas = boxes[:, 2] * boxes[:, 3]

    def suppressed(some: slice) -> Tensor:
        shared = pairwise_overlaps(boxes[some], boxes)
        union = areas[some, None] + areas - shared
        return shared / union.clamp(min=_SMALLEST_UNION) > nms_overlap_thresh

    _fill(_keep_of_tensors(len(boxes), suppressed), keep, num_out)


def iou3d_nms3d_normal_forward(
    boxes: Tensor, keep: Tensor, num_out: Tensor, nms_overlap_thresh: float
) -> None:
    """Suppress boxes by their overlap in bird's-eye view as if their yaw were 0.

    Args:
        boxes: (N, 7), x, y, z, dx, dy, dz and yaw in radians, the highest score first.
        keep: int64 (N,), filled with the indices of the kept boxes.
        num_out: Filled with the number of kept boxes, int64 without dimensions.
        nms_overlap_thresh: A box goes if its intersection over union with a kept one is higher.
    """
    half = boxes[:, 3:5] / 2
    boxes = torch.cat((boxes[:, :2] - half, boxes[:, :2] + half), 1).detach()
    if uses_loops(boxes):
        kept = _keep(to_array(boxes), nms_overlap_thresh, 0, _SMALLEST_UNION)
        _fill(torch.from_numpy(kept).nonzero()[:, 0], keep, num_out)
        return

    def suppressed(some: slice) -> Tensor:
        return _ious_of_tensors(boxes[some], boxes, 0, _SMALLEST_UNION) > nms_overlap_thresh

    _fill(_keep_of_tensors(len(boxes), suppressed), keep, num_out)


def _fill(kept: Tensor, keep: Tensor, num_out: Tensor) -> None:
    keep[: len(kept)] = kept
    num_out.fill_(len(kept))


@compiled()
def _keep(boxes: np.ndarray, threshold: float, offset: int, smallest_union: float) -> np.ndarray:
    """Which of the boxes (N, 4), lower and upper corners, stay; the highest score first."""
    # All in the type of the boxes, and columns on their own, for many boxes at once.
    zero, offset = boxes.dtype.type(0), boxes.dtype.type(offset)
    threshold, smallest_union = boxes.dtype.type(threshold), boxes.dtype.type(smallest_union)
    left, top = boxes[:, 0].copy(), boxes[:, 1].copy()
    right, bottom = boxes[:, 2].copy(), boxes[:, 3].copy()
    areas = (right - left + offset) * (bottom - top + offset)
    kept = np.ones(len(boxes), dtype=np.bool_)
    for i in range(len(boxes)):
        if not kept[i]:
            continue
        for j in range(i + 1, len(boxes)):
            width = max(zero, min(right[i], right[j]) - max(left[i], left[j]) + offset)
            height = max(zero, min(bottom[i], bottom[j]) - max(top[i], top[j]) + offset)
            shared = width * height
            union = max(areas[i] + areas[j] - shared, smallest_union)
            kept[j] &= not (shared / union > threshold)
    return kept


@compiled()
def _keep_rotated(
    boxes: np.ndarray, threshold: float, inclusive: bool, smallest_union: float
) -> np.ndarray:
    """Which of the boxes (N, 6), the label last, stay; the highest score first."""
    kept = np.ones(len(boxes), dtype=np.bool_)
    areas = boxes[:, 2] * boxes[:, 3]
    for i in range(len(boxes)):
        if not kept[i]:
            continue
        for j in range(i + 1, len(boxes)):
            if not kept[j] or boxes[i, 5] != boxes[j, 5]:
                continue
            shared = overlap(boxes[i], boxes[j])
            iou = shared / max(areas[i] + areas[j] - shared, smallest_union)
            if areas[i] < _SMALLEST_AREA or areas[j] < _SMALLEST_AREA:
                iou = 0.0
            kept[j] = not (iou > threshold or (inclusive and iou == threshold))
    return kept


def _ious_of_tensors(
    some: Tensor, boxes: Tensor, offset: int, smallest_union: float = 0.0
) -> Tensor:
    """Intersections over union (M, N) of (M, 4) with (N, 4) boxes, lower and upper corners."""
    lower = torch.maximum(some[:, None, :2], boxes[:, :2])
    upper = torch.minimum(some[:, None, 2:], boxes[:, 2:])
    shared = (upper - lower + offset).clamp(min=0).prod(-1)
    area, areas = ((b[:, 2:] - b[:, :2] + offset).prod(1) for b in (some, boxes))
    return shared / (area[:, None] + areas - shared).clamp(min=smallest_union)


def _keep_of_tensors(count: int, suppressed: Callable[[slice], Tensor]) -> Tensor:
    """Return the indices of the boxes that stay, by matrix operations alone.

    Args:
        count: Number of boxes, the highest score first.
        suppressed: Returns for some of the boxes which others (M, N) they suppress if they stay.
    """
    if count == 0:
        return torch.empty(0, dtype=torch.long)
    rows = max(1, (1 << 22) // count)
    blocks = (slice(i, min(i + rows, count)) for i in range(0, count, rows))
    later = torch.cat([suppressed(block) for block in blocks]).triu(1)
    # A box stays unless one before it stays and suppresses it. What the first box does is known,
    # and each pass settles at least one more; chains of suppressions are short in practice.
    weights = later.to(torch.float16 if later.is_cuda else torch.float32)
    kept = torch.ones(count, dtype=torch.bool, device=later.device)
    while True:
        settled = weights.T @ kept.to(weights.dtype) == 0
        if torch.equal(settled, kept):
            return kept.nonzero()[:, 0]
        kept = settled
