"""Validate Algorithm 1: how well bottlenecks generate, and how many directions they use."""

from __future__ import annotations

import json
import logging
from typing import Any, Mapping, Sequence

import numpy as np
import torch
from mmengine.dist import all_gather_object, all_reduce, broadcast_object_list, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from numpy.typing import NDArray

from ..files import write_file
from ..registry import METRICS
from .bottleneck_size import Saturation, measure_saturation
from .dynamic_variance import DynamicVariance
from .spectra import FeatureCovariance

_ROUNDING = 1e-9


def read_decoded_spectra(
    content: Mapping[str, Any],
) -> tuple[dict[int, list[float]], int | None]:
    """Read the spectra of decoded features from what :class:`BottleneckMetric` has written.

    Args:
        content: The content of its ``out_file``.

    Returns:
        For each size H, the (C,) singular values; and the proposed size, None for a single one.
    """
    spectra = {int(name[1:]): values for name, values in content['decoded_spectra'].items()}
    proposed = content['metrics'].get('suggested_size')
    return spectra, None if proposed is None else int(proposed)


@METRICS.register_module()
class BottleneckMetric(BaseMetric):
    """Measure generation loss, KL and the spectrum of decoded features of every bottleneck size.

    For each size H: ``h<H>/generation`` and ``h<H>/regularization`` (Eq. 7, without weight and
    noise), ``h<H>/explained``, the share of the student's variance that the decoded features
    account for, and ``h<H>/effective_rank`` of the decoded features. With several sizes also
    ``suggested_size`` (Sec. 5.1.3), see :func:`measure_saturation`. The features themselves
    have ``teacher/effective_rank`` and ``student/effective_rank``.

    Part of a feature on a grid is the same in all samples and encodes only the position (see
    :class:`DynamicVariance`). ``student/dynamic`` is the share of the student's variance that
    differs between samples, and ``h<H>/explained_dynamic`` is the fraction of that share that the
    decoded features account for.

    Features are accumulated batch by batch; none is kept.

    Args:
        out_file: JSON file for these numbers and all spectra; None to write none.
        prefix: Put before the metrics' names.
    """

    default_prefix = 'bottleneck'

    def __init__(self, out_file: str | None = None, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        self.out_file = out_file
        self._start()

    def _start(self) -> None:
        self._features = {'teacher': FeatureCovariance(), 'student': FeatureCovariance()}
        self._decoded: dict[str, FeatureCovariance] = {}
        self._sums: dict[str, torch.Tensor] = {}
        # Of the student's feature, and of what each bottleneck misses of it.
        self._dynamic: dict[str, DynamicVariance] = {}
        self._samples = 0

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Accumulate what :class:`BottleneckTraining` measured on a batch.

        Args:
            data_batch: Unused.
            data_samples: For each batch one dict: the features ``teacher`` and ``student`` and, by
                name, the :class:`BottleneckEvaluation` of each bottleneck.
        """
        for batch in data_samples:
            self._samples += len(batch['student'])
            self._measure_dynamic('student', batch['student'])
            for name, evaluation in batch.items():
                if name in self._features:
                    self._features[name].update(evaluation)
                    continue
                self._measure_dynamic(name, batch['student'] - evaluation.decoded)
                self._decoded.setdefault(name, FeatureCovariance()).update(evaluation.decoded)
                generation, regularization = evaluation.generation, evaluation.regularization
                values = torch.stack((generation, regularization, torch.ones_like(generation)))
                # The losses are means over the batch, and the last batch may be smaller.
                sums = values.detach().double() * len(evaluation.decoded)
                self._sums[name] = self._sums.get(name, 0) + sums

    def _measure_dynamic(self, name: str, feature: torch.Tensor) -> None:
        if feature.dim() > 2:
            self._dynamic.setdefault(name, DynamicVariance()).update(feature)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Compute the metrics of everything processed so far, over all processes.

        Args:
            results: Unused: nothing is kept sample by sample.

        Returns:
            Name to value.
        """
        self._agree_on_names()
        metrics, spectra = {}, {}
        for name, covariance in self._features.items():
            covariance.all_reduce()
            metrics[f'{name}/effective_rank'] = covariance.effective_rank()
        variance = float(self._features['student'].singular_values().sum())
        for name, covariance in self._decoded.items():
            covariance.all_reduce()
            sums = self._sums[name].clone()
            all_reduce(sums)
            generation, regularization, count = sums.tolist()
            spectra[name] = covariance.singular_values()
            metrics[f'{name}/generation'] = generation / count
            metrics[f'{name}/regularization'] = regularization / count
            metrics[f'{name}/explained'] = 1 - generation / count / variance
            metrics[f'{name}/effective_rank'] = covariance.effective_rank()
        metrics.update(self._dynamic_metrics(variance))
        saturation = None
        if len(spectra) > 1:
            saturation = measure_saturation(
                {int(name[1:]): values for name, values in spectra.items()}
            )
            metrics['suggested_size'] = float(saturation.bottleneck_size)
        if self.out_file is not None and is_main_process():
            self._write(self.out_file, metrics, spectra, saturation)
        return metrics

    def _agree_on_names(self) -> None:
        """Make the same accumulators, in the same order, on all processes.

        A process without a batch knows none of the names, and collectives are matched by order.
        """
        gathered = all_gather_object((list(self._decoded), list(self._dynamic)))
        decoded, dynamic = (
            list(dict.fromkeys(name for names in gathered for name in names[kind]))
            for kind in range(2)
        )
        self._decoded = {name: self._decoded.get(name, FeatureCovariance()) for name in decoded}
        self._dynamic = {name: self._dynamic.get(name, DynamicVariance()) for name in dynamic}
        zeros = torch.zeros(3, dtype=torch.float64)
        self._sums = {name: self._sums.get(name, zeros) for name in decoded}

    def _dynamic_metrics(self, variance: float) -> dict[str, float]:
        found = {}
        for name, accumulated in self._dynamic.items():
            accumulated.all_reduce()
            if accumulated.count > 1:
                found[name] = accumulated.variance()
        dynamic = found.pop('student', 0.0)
        # A student that is the same in all samples, up to rounding, leaves nothing to explain.
        if dynamic <= _ROUNDING * variance:
            return {}
        return {
            'student/dynamic': dynamic / variance,
            **{f'{name}/explained_dynamic': 1 - missed / dynamic for name, missed in found.items()},
        }

    def evaluate(self, size: int) -> dict[str, float]:
        """Finish a round of validation and begin the next.

        Args:
            size: Samples in the data set.

        Returns:
            The metrics, on every process.
        """
        metrics = [self.compute_metrics([])]
        broadcast_object_list(metrics)
        counted = torch.tensor(self._samples)
        all_reduce(counted)
        if int(counted) != size:
            print_log(
                f'{int(counted)} samples were measured, and the data set has {size}: on several '
                'processes some count twice unless the validation sampler has round_up=False.',
                logger='current',
                level=logging.WARNING,
            )
        self._start()
        return {f'{self.prefix}/{name}': value for name, value in metrics[0].items()}

    def _write(
        self,
        path: str,
        metrics: dict[str, float],
        spectra: dict[str, NDArray[np.float64]],
        saturation: Saturation | None,
    ) -> None:
        content = {
            'metrics': metrics,
            'feature_spectra': {
                name: covariance.singular_values().tolist()
                for name, covariance in self._features.items()
            },
            'decoded_spectra': {name: values.tolist() for name, values in spectra.items()},
            'largest_gains': None
            if saturation is None
            else {str(size): gain for size, gain in saturation.largest_gains.items()},
            'threshold': None if saturation is None else saturation.threshold,
        }
        write_file(path, json.dumps(content, indent=1) + '\n')
