"""Choose the bottleneck size H from the spectra of decoded features (paper, Sec. 5.1.3).

A bottleneck that is too small decodes features that vary in too few directions. From some size on,
more channels add nothing and the spectra of decoded features are nearly identical; that size is
proposed. What "add nothing" means is made precise here: how far, on average over the directions
that count, the spectrum of a larger bottleneck rises above that of a smaller one, against a
threshold. Only rises count: a larger bottleneck whose spectrum lies lower, because it is harder to
train or more strongly regularised, is no reason to ask for more channels.
"""

from __future__ import annotations

from typing import Mapping, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigError

# A quarter more variance in each direction that counts: about the width of a line in a figure of
# the spectra, and above the differences that repeated trainings and a few thousand samples leave.
SATURATION_THRESHOLD = 0.1
# Directions below a thousandth of the largest variance lie in the tail that a decoder's
# non-linearity spreads around, whatever the bottleneck's size.
SIGNIFICANT_SHARE = 1e-3


class Saturation(NamedTuple):
    """How the spectra of decoded features converge with the bottleneck's size.

    Attributes:
        bottleneck_size: The size H proposed: from it on, no spectrum gains from a larger size. If
            that was not seen, the largest size, because there is no larger one to compare it with.
        largest_gains: For each size but the largest, in ascending order, the largest gain of any
            larger size over it, in decades.
        threshold: What ``largest_gains`` were compared with, in decades.
    """

    bottleneck_size: int
    largest_gains: dict[int, float]
    threshold: float


def measure_saturation(
    spectra: Mapping[int, ArrayLike],
    threshold: float = SATURATION_THRESHOLD,
    significant_share: float = SIGNIFICANT_SHARE,
) -> Saturation:
    """Propose the smallest bottleneck whose decoded spectrum has saturated (Sec. 5.1.3).

    The gain of a larger size over a smaller one is the mean, over the directions that are
    significant in either, of max(0, log10 s' - log10 s), where s' and s are the singular values
    of the same index. A direction is significant if its singular value exceeds
    ``significant_share`` of the largest singular value in any of the spectra; smaller values are
    raised to that level before the logarithm. So a direction that a small bottleneck misses counts
    by how far it rises above that level, and the depth of the empty tail behind it, which is
    rounding error, does not count.

    Args:
        spectra: For each size H, (C,) singular values of the covariance of the decoded features,
            in any order.
        threshold: Gain up to which a larger size counts as adding nothing, in decades.
        significant_share: Where directions stop being significant, above 0 and below 1.

    Returns:
        The proposed size, and the gains that led to it.

    Raises:
        ConfigError: There are fewer than two sizes, spectra of different lengths, values that are
            no singular values, or only constant features.
    """
    if len(spectra) < 2:
        raise ConfigError(
            f'choosing a bottleneck size needs the decoded spectra of at least two; got '
            f'{sorted(spectra)}. Train more of them at once with bottleneck_sizes.'
        )
    if not 0 < significant_share < 1 or not threshold > 0:
        raise ConfigError(
            f'threshold is {threshold}, significant_share is {significant_share}; the first must '
            'be above 0, the second between 0 and 1.'
        )
    sizes = sorted(spectra)
    values = [_checked_spectrum(size, spectra[size]) for size in sizes]
    if len({spectrum.size for spectrum in values}) > 1:
        lengths = {size: spectrum.size for size, spectrum in zip(sizes, values)}
        raise ConfigError(
            f'the decoded features have different numbers of channels, by size: {lengths}. '
            'Compare bottlenecks that were trained for the same student.'
        )
    level = significant_share * max(spectrum[0] for spectrum in values)
    if level == 0:
        raise ConfigError(
            'all decoded features are constant, so no bottleneck size stands out. The bottlenecks '
            'are not trained, or need a smaller regularization_weight.'
        )
    logarithms = [np.log10(spectrum.clip(min=level)) for spectrum in values]
    largest_gains = {
        size: max(_gain(logarithms[i], larger, np.log10(level)) for larger in logarithms[i + 1 :])
        for i, size in enumerate(sizes[:-1])
    }
    proposed = sizes[-1]
    for size in reversed(sizes[:-1]):
        if largest_gains[size] > threshold:
            break
        proposed = size
    return Saturation(proposed, largest_gains, threshold)


def _gain(smaller: NDArray[np.float64], larger: NDArray[np.float64], log_level: float) -> float:
    significant = np.maximum(smaller, larger) > log_level
    # Of two spectra without a significant direction neither has anything to gain.
    rises = np.maximum(larger - smaller, 0.0)[significant]
    return float(rises.mean()) if rises.size else 0.0


def _checked_spectrum(size: int, spectrum: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(spectrum, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ConfigError(
            f'the spectrum of H = {size} has shape {values.shape}; it must be (C,), one singular '
            'value for each channel of the decoded feature.'
        )
    if not np.isfinite(values).all() or (values < 0).any():
        raise ConfigError(
            f'the spectrum of H = {size} has values that are negative or not finite; give '
            'singular values, not their logarithms.'
        )
    return np.sort(values)[::-1]
