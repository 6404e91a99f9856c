"""Validation of Algorithm 1: how well bottlenecks generate, how many directions they use."""

from __future__ import annotations

import json
import logging
from typing import Any, Sequence

import torch
from mmengine.dist import all_gather_object, all_reduce, broadcast_object_list, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from ..files import write_file
from ..registry import METRICS
from .bottleneck_size import measure_saturation
from .dynamic_variance import DynamicVariance
from .spectra import FeatureCovariance

_ROUNDING = 1e-9


@METRICS.register_module()
class BottleneckMetric(BaseMetric):
    """Generation loss, KL and the spectrum of the decoded features, for every bottleneck size.

    For each size H: ``h<H>/generation`` and ``h<H>/regularization`` (Eq. 7, without weight and
    noise), ``h<H>/explained``, the share of the student's variance that the decoded features
    account for, and ``h<H>/effective_rank`` of the decoded features. With several sizes also
    ``suggested_size`` (Sec. 5.1.3), see :func:`suggest_bottleneck_size`. The features themselves
    have ``teacher/effective_rank`` and ``student/effective_rank``.

    Of features on a grid, a part is the same in all samples and tells no more than the place (see
    :class:`DynamicVariance`): ``student/dynamic`` is the share of the student's variance that is
    not, and ``h<H>/explained_dynamic`` is what the decoded features account for of that share.

    Features are accumulated batch by batch; none is kept.

    Args:
        out_file: JSON file for these numbers and all spectra; None for none.
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
        """Take in what :class:`BottleneckTraining` measured on a batch.

        Args:
            data_batch: Unused.
            data_samples: For each batch one dict: the features ``teacher`` and ``student`` and, by
                name, the bottlenecks' terms.
        """
        for batch in data_samples:
            self._samples += len(batch['student'])
            self._measure_dynamic('student', batch['student'])
            for name, terms in batch.items():
                if name in self._features:
                    self._features[name].update(terms)
                    continue
                self._measure_dynamic(name, batch['student'] - terms.decoded)
                self._decoded.setdefault(name, FeatureCovariance()).update(terms.decoded)
                values = (terms.generation, terms.regularization, torch.ones_like(terms.generation))
                # The terms are means over the batch, and the last batch may be smaller.
                sums = torch.stack(values).detach().double() * len(terms.decoded)
                self._sums[name] = self._sums.get(name, 0) + sums

    def _measure_dynamic(self, name: str, feature: torch.Tensor) -> None:
        if feature.dim() > 2:
            self._dynamic.setdefault(name, DynamicVariance()).update(feature)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The metrics of everything processed so far, over all processes.

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
            self._write(metrics, spectra, saturation)
        return metrics

    def _agree_on_names(self) -> None:
        """Have the same accumulators, in the same order, on all processes.

        One that had no batch knows none of the names, and collectives are matched by their order.
        """
        gathered = all_gather_object((list(self._decoded), list(self._dynamic)))
        decoded, dynamic = (
            list(dict.fromkeys(name for names in gathered for name in names[kind]))
            for kind in range(2)
        )
        self._decoded = {name: self._decoded.get(name, FeatureCovariance()) for name in decoded}
        self._dynamic = {name: self._dynamic.get(name, DynamicVariance()) for name in dynamic}
        nothing = torch.zeros(3, dtype=torch.float64)
        self._sums = {name: self._sums.get(name, nothing) for name in decoded}

    def _dynamic_metrics(self, variance: float) -> dict[str, float]:
        found = {}
        for name, accumulated in self._dynamic.items():
            accumulated.all_reduce()
            if accumulated.count > 1:
                found[name] = accumulated.variance()
        dynamic = found.pop('student', 0.0)
        # A student that is the same in all samples, but for rounding, leaves nothing to explain.
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

    def _write(self, metrics: dict, spectra: dict, saturation: Any) -> None:
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
        write_file(self.out_file, json.dumps(content, indent=1) + '\n')
