"""One-to-one matching between predictions and ground truth (DETR, Eq. 1; DETR3D's costs)."""

from __future__ import annotations

from typing import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..ops.transfers import to_device
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
        targets = [(gt_labels, gt_codes)]
        query, target = self.match_layers(cls_scores[None, None], bbox_codes[None, None], targets)
        return query[0], target[0]

    @torch.no_grad()
    def match_layers(
        self, cls_scores: Tensor, bbox_codes: Tensor, targets: Sequence[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Match all samples in every decoder layer; waits for the device once.

        Args:
            cls_scores: Logits, (layers, B, queries, classes).
            bbox_codes: Predicted codes, (layers, B, queries, 10).
            targets: Labels (N,) int64 and codes (N, 10) of each sample.

        Returns:
            Matched queries, as indices into the layers * B * queries predictions, and their boxes,
            as indices into those of all samples one after the other. Both are (layers, M) int64, M
            the sum of min(queries, N) over the samples.
        """
        costs = [
            self._cost(cls_scores[:, sample], bbox_codes[:, sample], *target)
            for sample, target in enumerate(targets)
        ]
        on_cpu = torch.cat([cost.flatten() for cost in costs]).cpu()
        layers, batch, queries = cls_scores.shape[:3]
        pairs: list[list[np.ndarray]] = [[] for _ in range(layers)]
        first_box = 0
        for sample, part in enumerate(on_cpu.split([cost.numel() for cost in costs])):
            for layer, cost in enumerate(part.view(costs[sample].shape).numpy()):
                first_query = (layer * batch + sample) * queries
                query, box = linear_sum_assignment(cost)
                pairs[layer].append(np.stack((query + first_query, box + first_box)))
            first_box += costs[sample].size(-1)
        indices = np.stack([np.concatenate(parts, axis=1) for parts in pairs], axis=1)
        matched, boxes = to_device(torch.from_numpy(indices), cls_scores.device)
        return matched, boxes

    def _cost(
        self, cls_scores: Tensor, bbox_codes: Tensor, gt_labels: Tensor, gt_codes: Tensor
    ) -> Tensor:
        """Return the costs of one sample in every layer, (layers, queries, N)."""
        cost = self.classification_weight * self._focal_cost(cls_scores.float(), gt_labels)
        # Without velocity (the last two numbers), which is not visible in a single frame.
        cost = cost + self.box_weight * torch.cdist(
            bbox_codes[..., :8].float(), gt_codes[:, :8].float(), p=1
        )
        # Predictions that overflow get a high cost, instead of an error.
        return torch.nan_to_num(cost, nan=1e5, posinf=1e5, neginf=-1e5)

    def _focal_cost(self, cls_scores: Tensor, gt_labels: Tensor) -> Tensor:
        probability = cls_scores.sigmoid().index_select(-1, gt_labels)
        eps = 1e-12
        positive = -self.alpha * (1 - probability) ** self.gamma * (probability + eps).log()
        negative = -(1 - self.alpha) * probability**self.gamma * (1 - probability + eps).log()
        return positive - negative
