"""Separate the part of a BEV feature that differs between samples from the part that is constant.

A BEV feature has learned queries for its positions and a camera rig that never moves, so much of
its variance over cells is the same in every frame: it encodes where a cell is, not what is there. A
bottleneck that predicts that part well and the rest badly looks good in a mean over both.
"""

from __future__ import annotations

import torch
from mmengine.dist import all_gather_object, all_reduce
from torch import Tensor

from ..errors import CibaError, ConfigError


class DynamicVariance:
    """Variance over samples at fixed cells, accumulated batch by batch.

    For each channel and cell two sums are kept in float64, on the features' device.
    """

    def __init__(self) -> None:
        self._count = 0
        self._sums: Tensor | None = None
        self._squares: Tensor | None = None

    @torch.no_grad()
    def update(self, features: Tensor) -> None:
        r"""Accumulate a batch.

        Args:
            features: (B, C, \*grid), any dtype, any device; always the same C and grid.

        Raises:
            ConfigError: The shape differs from that of earlier batches.
        """
        values = features.detach().double()
        if self._sums is None or self._squares is None:
            self._sums = torch.zeros_like(values[0])
            self._squares = torch.zeros_like(values[0])
        if self._sums.shape != values.shape[1:]:
            raise ConfigError(
                f'features have shape {tuple(values.shape[1:])}, those before had '
                f'{tuple(self._sums.shape)}. Use one DynamicVariance for each feature.'
            )
        self._count += len(values)
        self._sums += values.sum(0)
        self._squares += values.square().sum(0)

    def all_reduce(self) -> None:
        """Merge the accumulators of all processes; afterwards each holds the total.

        Every process must call it once, after the last batch; a process may have had no batch.

        Raises:
            CibaError: The processes have features of different shapes.
        """
        mine = None if self._sums is None else tuple(self._sums.shape)
        shapes = {shape for shape in all_gather_object(mine) if shape is not None}
        if len(shapes) > 1:
            raise CibaError(f'the processes have features of shapes {sorted(shapes)}.')
        if not shapes:
            return
        if self._sums is None or self._squares is None:
            self._sums = torch.zeros(shapes.pop(), dtype=torch.float64)
            self._squares = torch.zeros_like(self._sums)
        count = torch.tensor(float(self._count), dtype=torch.float64)
        for value in (count, self._sums, self._squares):
            all_reduce(value)
        self._count = round(float(count))

    @property
    def count(self) -> int:
        """Number of samples accumulated."""
        return self._count

    def variance(self) -> float:
        """Return the unbiased variance over samples, averaged over cells and summed over channels.

        Returns:
            In the squared unit of the feature; at most its total variance, apart from
            sampling error.

        Raises:
            CibaError: Fewer than two samples were accumulated.
        """
        if self._count < 2 or self._sums is None or self._squares is None:
            raise CibaError(
                f'the variance over samples needs at least two of them; got {self._count}.'
            )
        deviations = self._squares - self._sums.square() / self._count
        channels = deviations.clamp(min=0).flatten(1).mean(1)
        return float(channels.sum() / (self._count - 1))
