"""Distillation losses between a student's feature and its target (paper, Sec. 4.2 and 5.1.2).

Each loss compares the channels it is given; the caller selects the first H of the student's. A grid
is compared cell by cell, each cell like a feature without a grid.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..registry import MODELS

# The gradient of a direction grows as its vector shrinks; below this length it stops growing.
_SMALLEST_LENGTH = 1e-4


class FeatureLoss(nn.Module, metaclass=ABCMeta):
    """Mean of a loss over cells and samples, in float32 even under autocast.

    A new loss implements :meth:`_loss_per_cell`.
    """

    def forward(self, student: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        r"""Compare two features.

        Args:
            student: (B, C, \*grid), any floating dtype.
            target: The same shape.
            weight: Weight of each cell, at least zero, (B, 1, \*grid); None for equal weights.

        Returns:
            Scalar float32: the sum over cells and samples of weight times loss, divided by the sum
            of the weights; zero where all weights are zero.

        Raises:
            ConfigError: The shapes do not fit.
        """
        if student.dim() < 2 or student.shape != target.shape:
            raise ConfigError(
                f"the student's feature is {tuple(student.shape)} and its target "
                f'{tuple(target.shape)}: both must be (B, C, *grid), of one shape. Crop the '
                "student's feature to the target's channels, and resample both to one grid."
            )
        with torch.autocast(student.device.type, enabled=False):
            loss = self._loss_per_cell(student.float(), target.float())
            if weight is None:
                return loss.mean()
            if weight.shape != (len(student), 1, *student.shape[2:]):
                raise ConfigError(
                    f'the weight is {tuple(weight.shape)} and the features are '
                    f'{tuple(student.shape)}: the weight must be the same but for one channel.'
                )
            weight = weight[:, 0].float()
            # Without any object in the batch all weights are zero, and so is the numerator.
            return (weight * loss).sum() / weight.sum().clamp(min=torch.finfo(loss.dtype).tiny)

    @abstractmethod
    def _loss_per_cell(self, student: Tensor, target: Tensor) -> Tensor:
        r"""Return the loss of each cell, (B, \*grid), from float32 features (B, C, \*grid)."""


@MODELS.register_module()
class MSELoss(FeatureLoss):
    """Squared difference (Algorithm 2; with a weight around objects, "MSE w/ GT" of Table 2).

    Args:
        reduction: ``'mean'`` over the channels, which gives codes of all sizes the same weight, or
            ``'sum'``, the squared norm of Algorithm 2.

    Raises:
        ConfigError: The reduction is neither.
    """

    def __init__(self, reduction: str = 'mean') -> None:
        super().__init__()
        if reduction not in ('mean', 'sum'):
            raise ConfigError(f"reduction is {reduction!r}; it must be 'mean' or 'sum'.")
        self.reduction = reduction

    def _loss_per_cell(self, student: Tensor, target: Tensor) -> Tensor:
        error = F.mse_loss(student, target, reduction='none')
        return error.mean(1) if self.reduction == 'mean' else error.sum(1)


@MODELS.register_module()
class CrossEntropyLoss(FeatureLoss):
    """Cross-entropy -p' log p between features softmaxed over their channels (Appendix E.5)."""

    def _loss_per_cell(self, student: Tensor, target: Tensor) -> Tensor:
        return -(target.softmax(1) * student.log_softmax(1)).sum(1)


@MODELS.register_module()
class CLIPLoss(FeatureLoss):
    """Symmetric contrastive loss over the batch (Sec. 5.1.2; Radford et al. 2021).

    A student's feature has to be closer in direction to its own target than to the targets of the
    other samples, and a target closer to its own student. On a grid, the others are the same cell
    in the other samples: B x B comparisons per cell.

    Args:
        temperature: Divides the cosine similarities. 0.07 is where the cited work starts; it
            learns the value, here it is fixed.

    Raises:
        ConfigError: The temperature is not positive, or (in forward) the batch has one sample.
    """

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f'temperature is {temperature}; it must be positive.')
        self.temperature = temperature

    def _loss_per_cell(self, student: Tensor, target: Tensor) -> Tensor:
        if len(student) < 2:
            raise ConfigError(
                'CLIPLoss compares the samples of a batch, and this batch has one: use a batch '
                'of at least two on each GPU, or another loss.'
            )
        students, targets = (
            _direction(feature.reshape(*feature.shape[:2], -1)).permute(2, 0, 1)
            for feature in (student, target)
        )
        # (cells, students, targets)
        logits = students @ targets.transpose(1, 2) / self.temperature
        own = torch.diagonal(logits, dim1=1, dim2=2)
        loss = 0.5 * (logits.logsumexp(2) + logits.logsumexp(1)) - own
        return loss.t().reshape(student.shape[:1] + student.shape[2:])


@MODELS.register_module()
class MarginLoss(FeatureLoss):
    """Cosine distance beyond a margin: max(0, 1 - cos(student, target) - margin).

    The paper takes its margin loss from Jin et al. 2023, where the margin loosens the alignment of
    student and teacher: features close enough have no loss. It is not a ranking against other
    samples. The paper states neither distance nor margin; the cosine is our choice, because its
    margin does not depend on the scale of the teacher's features.

    Args:
        margin: Largest cosine distance without loss, from 0 to below 2; 0.1 is 26 degrees.

    Raises:
        ConfigError: The margin is outside this range.
    """

    def __init__(self, margin: float = 0.1) -> None:
        super().__init__()
        if not 0 <= margin < 2:
            raise ConfigError(f'margin is {margin}; cosine distances go from 0 to 2.')
        self.margin = margin

    def _loss_per_cell(self, student: Tensor, target: Tensor) -> Tensor:
        cosine = (_direction(student) * _direction(target)).sum(1)
        return (1.0 - cosine - self.margin).clamp(min=0)


def _direction(feature: Tensor) -> Tensor:
    return F.normalize(feature, dim=1, eps=_SMALLEST_LENGTH)
