"""Singular values of the covariance of features, accumulated batch by batch.

A feature whose variance lies in few directions has collapsed; the logarithms of the covariance's
singular values, sorted, show it (Jing et al., "Understanding Dimensional Collapse in Contrastive
Self-supervised Learning", 2022; Figures 5, 6 and 12 of the paper). Every cell of a grid counts as
one feature vector.
"""

from __future__ import annotations

import math
from typing import Any, Iterator, NamedTuple, Union

import numpy as np
import torch
import torch.distributed
from mmengine.dist import get_comm_device, get_world_size
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CibaError, ConfigError

# Numbers that are held in float64 at a time: 32 MiB.
_CHUNK_NUMBERS = 2**22

Features = Union[Tensor, NDArray[Any]]


class ChannelEnergy(NamedTuple):
    """Share of a feature's energy in its first channels; the other channels hold the rest.

    Attributes:
        variance: Share of the total variance, 0 to 1; 0 if nothing varies.
        second_moment: Share of the mean squared norm, 0 to 1, which includes the mean; 0 if the
            feature is zero.
    """

    variance: float
    second_moment: float


class FeatureCovariance:
    """Mean and covariance of any number of features in the memory of one batch.

    The sums are kept in float64 on the device of the features. Each batch is centred on its own
    mean before it is squared, and batches are merged by the update of Chan, Golub and LeVeque
    (1979), so a mean that is large against the deviations costs no accuracy.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean: Tensor | None = None
        self._scatter: Tensor | None = None

    @torch.no_grad()
    def update(self, features: Tensor) -> None:
        r"""Accumulate a batch.

        Args:
            features: (B, C) or (B, C, \*grid), any dtype, any device; always the same C. A
                batch that raises leaves the accumulator unchanged.

        Raises:
            ConfigError: The shape does not fit.
            CibaError: A value is NaN or infinite.
        """
        if features.dim() < 2:
            raise ConfigError(
                f'features have shape {tuple(features.shape)}; it must be (B, C) or (B, C, *grid).'
            )
        channels = features.size(1)
        if self._mean is not None and self._mean.numel() != channels:
            raise ConfigError(
                f'features have {channels} channels, those before had {self._mean.numel()}. '
                'Use one FeatureCovariance for each feature.'
            )
        batch = FeatureCovariance()
        for columns in _float64_columns(features.detach()):
            mean = columns.mean(1)
            # Any value that is not finite makes its channel's mean so.
            if not torch.isfinite(mean).all():
                raise CibaError(
                    f'{_describe_non_finite(features)} The model that gave these features has '
                    'diverged, or its input was damaged.'
                )
            columns -= mean[:, None]
            batch._merge(columns.size(1), mean, columns @ columns.T)
        self.merge(batch)

    def merge(self, other: FeatureCovariance) -> None:
        """Add what another accumulator holds.

        Args:
            other: The other accumulator; left unchanged.

        Raises:
            ConfigError: Its features have another number of channels.
        """
        if other._mean is None or other._scatter is None:
            return
        if self._mean is not None and self._mean.numel() != other._mean.numel():
            raise ConfigError(
                f'cannot merge features of {other._mean.numel()} channels with features of '
                f'{self._mean.numel()}.'
            )
        self._merge(other._count, other._mean, other._scatter)

    def all_reduce(self) -> None:
        """Merge the accumulators of all processes; afterwards each holds the total.

        Every process must call it once, after the last batch; a process may have had no batch.
        Without distributed processes it does nothing.

        Raises:
            CibaError: The processes have features of different numbers of channels.
        """
        if get_world_size() == 1:
            return
        # The other processes know the number of channels where this one has had no batch.
        channels = 0 if self._mean is None else self._mean.numel()
        sizes = torch.tensor([channels, -channels if channels else -(2**62)])
        sizes = sizes.to(get_comm_device())
        torch.distributed.all_reduce(sizes, op=torch.distributed.ReduceOp.MAX)
        largest, smallest = int(sizes[0]), -int(sizes[1])
        if largest == 0:
            return
        if largest != smallest:
            raise CibaError(
                f'the processes have features of {smallest} and of {largest} channels; they '
                'cannot be merged.'
            )
        if self._mean is None or self._scatter is None:
            self._mean = sizes.new_zeros(largest, dtype=torch.float64)
            self._scatter = sizes.new_zeros((largest, largest), dtype=torch.float64)
        device = self._mean.device
        count = _sum_over_processes(torch.tensor(float(self._count), dtype=torch.float64))
        mean = _sum_over_processes(self._mean * self._count).to(device) / float(count)
        offset = self._mean - mean
        scatter = self._scatter + torch.outer(offset, offset) * self._count
        self._count = round(float(count))
        self._mean = mean
        self._scatter = _sum_over_processes(scatter).to(device)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Covariance of the features, (C, C) float64, divided by the count itself.

        Raises:
            CibaError: No features were accumulated.
        """
        return (self._state()[1] / self._count).cpu().numpy()

    def singular_values(self) -> NDArray[np.float64]:
        """Return the singular values of the covariance.

        Returns:
            (C,) float64, largest first, none below 0; in the squared unit of the feature.

        Raises:
            CibaError: No features were accumulated.
        """
        # The matrix is symmetric and positive semi-definite: these are its eigenvalues, but for
        # tiny negative ones from rounding.
        return np.linalg.eigvalsh(self.covariance)[::-1].clip(min=0.0)

    def effective_rank(self) -> float:
        """Return how many directions the features use; see :func:`effective_rank`.

        Returns:
            1 to C; 0 for features that are all the same.

        Raises:
            CibaError: No features were accumulated.
        """
        return effective_rank(self.singular_values())

    def channel_energy(self, first: int) -> ChannelEnergy:
        """Return the share of the energy in the first channels, such as those of a distilled code.

        Args:
            first: Number of channels H; channels [0:H] are compared with all.

        Returns:
            Shares of the variance and of the second moment.

        Raises:
            ConfigError: There are fewer channels.
            CibaError: No features were accumulated.
        """
        mean, scatter = self._state()
        if not 1 <= first <= mean.numel():
            raise ConfigError(
                f'channel_energy: there are no first {first} channels in a feature of '
                f'{mean.numel()}.'
            )
        variance = scatter.diagonal() / self._count
        return ChannelEnergy(
            _share(variance, first),
            _share(variance + mean.square(), first),
        )

    def _merge(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if self._mean is None or self._scatter is None:
            self._count, self._mean, self._scatter = count, mean.clone(), scatter.clone()
            return
        total = self._count + count
        step = mean.to(self._mean.device) - self._mean
        self._scatter += scatter.to(self._scatter.device)
        self._scatter += torch.outer(step, step) * (self._count * count / total)
        self._mean += step * (count / total)
        self._count = total

    def _state(self) -> tuple[Tensor, Tensor]:
        if self._mean is None or self._scatter is None:
            raise CibaError('no features were accumulated, so there is no covariance.')
        return self._mean, self._scatter


def effective_rank(features_or_spectrum: Features) -> float:
    r"""Return how many directions a feature set uses (Roy and Vetterli, 2007).

    The exponential of the entropy of the *covariance's* singular values divided by their sum, that
    is, of the shares of the variance along the principal directions: C if all directions vary
    alike, 1 if one alone does. Measures on the singular values of the feature matrix itself, the
    square roots of these, give larger numbers.

    Args:
        features_or_spectrum: (B, C) or (B, C, \*grid) features, or (C,) singular values of their
            covariance (not their logarithms).

    Returns:
        1 to C; 0 where nothing varies.

    Raises:
        ConfigError: A singular value is negative or not finite, or the shape does not fit.
        CibaError: There are no features, or one is not finite.
    """
    if features_or_spectrum.ndim != 1:
        return _covariance_of(features_or_spectrum).effective_rank()
    values = _as_tensor(features_or_spectrum).detach().cpu().double().numpy()
    if not np.isfinite(values).all() or (values < 0).any():
        raise ConfigError(
            'effective_rank: a spectrum is made of singular values, which are finite and not '
            'negative; do not pass their logarithms.'
        )
    total = values.sum()
    if total == 0:
        return 0.0
    shares = values[values > 0] / total
    return float(math.exp(-(shares * np.log(shares)).sum()))


def _covariance_of(features: Features) -> FeatureCovariance:
    covariance = FeatureCovariance()
    covariance.update(_as_tensor(features))
    return covariance


def _as_tensor(values: Features) -> Tensor:
    # torch refuses arrays with negative strides, such as reversed ones.
    return values if isinstance(values, Tensor) else torch.from_numpy(values.copy())


def _float64_columns(features: Tensor) -> Iterator[Tensor]:
    r"""Split (B, C, \*grid) features into chunks (C, N) in float64, N > 0 vectors each."""
    channels = features.size(1)
    cells = features.flatten(2) if features.dim() > 2 else features.unsqueeze(2)
    cells_a_chunk = max(1, _CHUNK_NUMBERS // max(1, channels))
    samples_a_chunk = max(1, cells_a_chunk // max(1, cells.size(2)))
    for samples in cells.split(samples_a_chunk):
        for chunk in samples.split(cells_a_chunk, dim=2):
            vectors = chunk.size(0) * chunk.size(2)
            if vectors == 0:
                continue
            # Converted and rearranged in one copy.
            columns = chunk.new_empty((channels, vectors), dtype=torch.float64)
            columns.view(channels, chunk.size(0), chunk.size(2)).copy_(chunk.transpose(0, 1))
            yield columns


def _describe_non_finite(features: Tensor) -> str:
    wrong = ~torch.isfinite(features)
    samples = wrong.flatten(1).any(1).nonzero().flatten().tolist()
    return (
        f'{int(wrong.sum())} of {features.numel()} feature values are NaN or infinite, in samples '
        f'{samples} of the batch.'
    )


def _share(parts: Tensor, first: int) -> float:
    total = float(parts.sum())
    return float(parts[:first].sum()) / total if total > 0 else 0.0


def _sum_over_processes(values: Tensor) -> Tensor:
    total = values.to(get_comm_device(), copy=True)
    torch.distributed.all_reduce(total)
    return total
