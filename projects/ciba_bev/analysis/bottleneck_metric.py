"""Validation of Algorithm 1: how well bottlenecks generate, how many directions they use."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Sequence

import torch
from mmengine.dist import all_reduce, broadcast_object_list, is_main_process
from mmengine.evaluator import BaseMetric

from ..registry import METRICS
from .bottleneck_size import measure_saturation
from .spectra import FeatureCovariance


@METRICS.register_module()
class BottleneckMetric(BaseMetric):
    """Generation loss, KL and the spectrum of the decoded features, for every bottleneck size.

    For each size H: ``h<H>/generation`` and ``h<H>/regularization`` (Eq. 7, without weight and
    noise), ``h<H>/explained``, the share of the student's variance that the decoded features
    account for, and ``h<H>/effective_rank`` of the decoded features. With several sizes also
    ``suggested_size`` (Sec. 5.1.3), see :func:`suggest_bottleneck_size`. The features themselves
    have ``teacher/effective_rank`` and ``student/effective_rank``. They are accumulated batch by
    batch; none is kept.

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

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Take in what :class:`BottleneckTraining` measured on a batch.

        Args:
            data_batch: Unused.
            data_samples: For each batch one dict: the features ``teacher`` and ``student`` and, by
                name, the bottlenecks' terms.
        """
        for batch in data_samples:
            for name, terms in batch.items():
                if name in self._features:
                    self._features[name].update(terms)
                    continue
                self._decoded.setdefault(name, FeatureCovariance()).update(terms.decoded)
                values = (terms.generation, terms.regularization, torch.ones_like(terms.generation))
                # The terms are means over the batch, and the last batch may be smaller.
                sums = torch.stack(values).detach().double() * len(terms.decoded)
                self._sums[name] = self._sums.get(name, 0) + sums

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The metrics of everything processed so far, over all processes.

        Args:
            results: Unused: nothing is kept sample by sample.

        Returns:
            Name to value.
        """
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
        saturation = None
        if len(spectra) > 1:
            saturation = measure_saturation(
                {int(name[1:]): values for name, values in spectra.items()}
            )
            metrics['suggested_size'] = float(saturation.bottleneck_size)
        if self.out_file is not None and is_main_process():
            self._write(metrics, spectra, saturation)
        return metrics

    def evaluate(self, size: int) -> dict[str, float]:
        """Finish a round of validation and begin the next.

        Args:
            size: Samples in the data set.

        Returns:
            The metrics, on every process.
        """
        metrics = [self.compute_metrics([])]
        broadcast_object_list(metrics)
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
        path = Path(self.out_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f'.{path.name}.partial')
        partial.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
        os.replace(partial, path)
