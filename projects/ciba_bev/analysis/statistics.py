"""Means over seeds and the significance of their differences (Tables 4, 5 and 7 of the paper)."""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

import numpy as np

from ..errors import ConfigError


class MeanAndDeviation(NamedTuple):
    """Mean and sample standard deviation of repeated runs.

    Attributes:
        mean: In the unit of the scores.
        deviation: Divided by n - 1, in the same unit.
    """

    mean: float
    deviation: float


def mean_and_deviation(values: Sequence[float]) -> MeanAndDeviation:
    """Return mean and sample standard deviation (divided by n - 1) of one score over seeds.

    Args:
        values: The scores, at least two.

    Returns:
        Both in the unit of the scores.

    Raises:
        ConfigError: There are fewer than two scores, or one is not finite.
    """
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or scores.size < 2:
        raise ConfigError(
            f'a deviation needs the scores of at least two runs; got {scores.size}. Run more seeds.'
        )
    if not np.isfinite(scores).all():
        runs = np.flatnonzero(~np.isfinite(scores)).tolist()
        raise ConfigError(f'the scores of runs {runs} are NaN or infinite.')
    return MeanAndDeviation(float(scores.mean()), float(scores.std(ddof=1)))


def welch_p_value(
    mean_a: float, std_a: float, n_a: int, mean_b: float, std_b: float, n_b: int
) -> float:
    """Return the two-sided p-value of Welch's t-test, which allows the two variances to differ.

    Args:
        mean_a: Mean of the first sample.
        std_a: Its sample standard deviation (divided by n - 1).
        n_a: Its size, such as the number of seeds; at least 2.
        mean_b: Mean of the second sample.
        std_b: Its sample standard deviation.
        n_b: Its size.

    Returns:
        Probability of a difference at least as large, either way, between equal means; NaN where
        neither sample varies, because the test is undefined then.

    Raises:
        ConfigError: A size is below 2, a deviation is negative, or a value is not finite.
    """
    # Takes half a second, which importing the package should not.
    from scipy.stats import ttest_ind_from_stats

    if min(n_a, n_b) < 2:
        raise ConfigError(
            f"Welch's test needs at least two runs of each kind; got {n_a} and {n_b}. Run more "
            'seeds.'
        )
    if not all(map(math.isfinite, (mean_a, std_a, mean_b, std_b))) or min(std_a, std_b) < 0:
        raise ConfigError(
            f"Welch's test: means {mean_a} and {mean_b} must be finite, standard deviations "
            f'{std_a} and {std_b} finite and not negative.'
        )
    if std_a == 0 and std_b == 0:
        return math.nan
    result = ttest_ind_from_stats(mean_a, std_a, n_a, mean_b, std_b, n_b, equal_var=False)
    return float(result.pvalue)
