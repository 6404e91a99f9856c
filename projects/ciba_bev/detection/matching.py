"""One-to-one matching between predictions and ground truth (DETR, Eq. 1; DETR3D's costs)."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..registry import TASK_UTILS


@TASK_UTILS.register_module()
class HungarianMatcher3D:
    """Match each ground-truth box to one query with the minimum total cost.

    The cost of a pair is the focal classification cost plus the L1 distance of the box codes
    without velocity.

    Args:
        classification_weight: Weight of the focal cost.
        box_weight: Weight of the L1 cost.
        alpha: Weight of the positive term of the focal cost.
        gamma: Exponent of the focal cost.
    """

    def __init__(
        self,
        classification_weight: float = 2.0,
        box_weight: float = 0.25,
        alpha: float = 0.25,
        gamma: float = 2.0,
    ) -> None:
        self.classification_weight = classification_weight
        self.box_weight = box_weight
        self.alpha = alpha
        self.gamma = gamma

    @torch.no_grad()
    def match(
        self, cls_scores: Tensor, bbox_codes: Tensor, gt_labels: Tensor, gt_codes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Match one sample.

        Args:
            cls_scores: Logits, (queries, classes).
            bbox_codes: Predicted codes, (queries, 10).
            gt_labels: (N,) int64.
            gt_codes: (N, 10).

        Returns:
            Matched query indices and their ground-truth indices, both (min(queries, N),) int64.
        """
        cost = self.classification_weight * self._focal_cost(cls_scores.float(), gt_labels)
        # Without velocity (the last two numbers), which is not visible in a single frame.
        cost = cost + self.box_weight * torch.cdist(
            bbox_codes[:, :8].float(), gt_codes[:, :8].float(), p=1
        )
        # Predictions that overflow get a high cost, instead of an error.
        cost = torch.nan_to_num(cost, nan=1e5, posinf=1e5, neginf=-1e5)
        query, target = linear_sum_assignment(cost.cpu().numpy())
        return (
            torch.as_tensor(query, dtype=torch.long, device=cls_scores.device),
            torch.as_tensor(target, dtype=torch.long, device=cls_scores.device),
        )

    def _focal_cost(self, cls_scores: Tensor, gt_labels: Tensor) -> Tensor:
        probability = cls_scores.sigmoid()[:, gt_labels]
        eps = 1e-12
        positive = -self.alpha * (1 - probability) ** self.gamma * (probability + eps).log()
        negative = -(1 - self.alpha) * probability**self.gamma * (1 - probability + eps).log()
        return positive - negative
