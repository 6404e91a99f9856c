"""Scores of classifiers: accuracy, and F1 scores for several labels per sample."""

from __future__ import annotations

from typing import Any, Sequence

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from ..errors import CibaError
from ..registry import METRICS


class LogitMetric(BaseMetric):
    """Base class that collects the logits and labels of all samples."""

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Tensor]]) -> None:
        """Collect the predictions of :class:`Classifier` for a batch.

        Args:
            data_batch: Unused.
            data_samples: One dict for the batch: ``logits`` (B, K), ``labels`` (B,) or (B, K).
        """
        for batch in data_samples:
            self.results.extend(zip(batch['logits'].detach().cpu(), batch['labels'].cpu()))

    @staticmethod
    def _stack(results: list) -> tuple[Tensor, Tensor]:
        logits, labels = (torch.stack(column) for column in zip(*results))
        if not torch.isfinite(logits).all():
            count = int((~torch.isfinite(logits).all(-1)).sum())
            raise CibaError(
                f'the logits of {count} of {len(logits)} samples are NaN or infinite: the training '
                'diverged. Lower the learning rate, or train in float32.'
            )
        return logits, labels


@METRICS.register_module()
class Accuracy(LogitMetric):
    """Fraction of samples whose largest logit is that of their class, in percent.

    The arguments are those of mmengine's ``BaseMetric``.
    """

    default_prefix = 'accuracy'

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return the accuracy over all samples.

        Args:
            results: Logits (K,) and label of every sample.

        Returns:
            ``top1``, 0 to 100.
        """
        logits, labels = self._stack(results)
        return {'top1': 100 * (logits.argmax(1) == labels).double().mean().item()}


@METRICS.register_module()
class F1Score(LogitMetric):
    """F1 scores over classes (macro) and over all decisions (micro), in percent.

    Args:
        threshold: Smallest probability at which a label is assigned.
        prefix: Prefix of the metrics' names.
    """

    default_prefix = 'f1'

    def __init__(self, threshold: float = 0.5, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        self.threshold = threshold

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return the scores over all samples.

        Args:
            results: Logits (K,) and labels (K,) of every sample.

        Returns:
            ``micro`` and ``macro``, 0 to 100. A class that is neither assigned nor present counts
            as 0, as in scikit-learn.
        """
        logits, labels = self._stack(results)
        assigned, present = logits.sigmoid() >= self.threshold, labels > 0.5
        hits = (assigned & present).double().sum(0)
        both = assigned.double().sum(0) + present.double().sum(0)
        macro = torch.where(both > 0, 2 * hits / both.clamp(min=1), torch.zeros_like(hits)).mean()
        micro = 2 * hits.sum() / both.sum().clamp(min=1)
        return {'micro': 100 * micro.item(), 'macro': 100 * macro.item()}
