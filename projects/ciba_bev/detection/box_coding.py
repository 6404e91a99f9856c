"""Encode and decode boxes as the ten numbers that a detection head regresses.

The code of a box is (cx, cy, log length, log width, cz, log height, sin yaw, cos yaw, vx, vy) in
the LiDAR frame, metres and metres a second, with (cx, cy, cz) the box's gravity centre.
"""

from __future__ import annotations

from typing import Sequence

import torch
from mmdet3d.structures import BaseInstance3DBoxes
from torch import Tensor

from ..registry import TASK_UTILS

CODE_SIZE = 10


def encode_boxes(boxes: Tensor) -> Tensor:
    """Encode boxes as regression codes.

    Args:
        boxes: (N, 9) as (cx, cy, cz, length, width, height, yaw, vx, vy), gravity centre.

    Returns:
        (N, 10) codes.
    """
    center_x, center_y, center_z, length, width, height, yaw, *velocity = boxes.unbind(-1)
    return torch.stack(
        (
            center_x,
            center_y,
            length.log(),
            width.log(),
            center_z,
            height.log(),
            yaw.sin(),
            yaw.cos(),
            *velocity,
        ),
        dim=-1,
    )


def decode_boxes(codes: Tensor) -> Tensor:
    """Decode regression codes; the inverse of :func:`encode_boxes`.

    Args:
        codes: (..., 10).

    Returns:
        (..., 9) as (cx, cy, cz, length, width, height, yaw, vx, vy), yaw in (-pi, pi].
    """
    center_x, center_y, length, width, center_z, height, sine, cosine, *velocity = codes.unbind(-1)
    return torch.stack(
        (
            center_x,
            center_y,
            center_z,
            length.exp(),
            width.exp(),
            height.exp(),
            torch.atan2(sine, cosine),
            *velocity,
        ),
        dim=-1,
    )


def gravity_center_boxes(boxes: BaseInstance3DBoxes) -> Tensor:
    """Convert mmdet3d's boxes to boxes with the gravity centre.

    Args:
        boxes: LiDAR boxes with velocity, whose tensor has the bottom centre.

    Returns:
        (N, 9) as (cx, cy, cz, length, width, height, yaw, vx, vy), metres, LiDAR frame.
    """
    return torch.cat((boxes.gravity_center, boxes.tensor[:, 3:]), dim=-1)


@TASK_UTILS.register_module()
class TopScoreBoxCoder:
    """Keep the (query, class) pairs with the best scores, without non-maximum suppression.

    Args:
        post_center_range: Range of the box centres that are kept,
            (x_min, y_min, z_min, x_max, y_max, z_max) in metres, LiDAR frame.
        max_num: Maximum number of pairs.
        score_threshold: Minimum score; None for no minimum.
    """

    def __init__(
        self,
        post_center_range: Sequence[float] = (-61.2, -61.2, -10.0, 61.2, 61.2, 10.0),
        max_num: int = 300,
        score_threshold: float | None = None,
    ) -> None:
        self.post_center_range = tuple(post_center_range)
        self.max_num = max_num
        self.score_threshold = score_threshold

    def decode(self, cls_scores: Tensor, bbox_codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Decode one sample.

        Args:
            cls_scores: Classification logits, (queries, classes).
            bbox_codes: (queries, 10).

        Returns:
            Boxes (N, 9) with the gravity centre, scores (N,), labels (N,) int64; best first.
        """
        scores, order = cls_scores.sigmoid().flatten().topk(min(self.max_num, cls_scores.numel()))
        num_classes = cls_scores.size(-1)
        labels = order % num_classes
        query = torch.div(order, num_classes, rounding_mode='floor')
        boxes = decode_boxes(bbox_codes[query])
        limits = boxes.new_tensor(self.post_center_range)
        keep = ((boxes[:, :3] >= limits[:3]) & (boxes[:, :3] <= limits[3:])).all(1)
        if self.score_threshold is not None:
            keep &= scores >= self.score_threshold
        return boxes[keep], scores[keep], labels[keep]
