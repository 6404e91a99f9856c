import itertools
import math
import statistics

import pytest
from scipy.stats import t as student_t

from ciba_bev.analysis import mean_and_deviation, welch_p_value
from ciba_bev.errors import ConfigError

# Mean and deviation over five seeds without CIBA and with it, and the p-value, as Tables 4, 5 and 7
# print them.
PRINTED = {
    'RAVDESS A->I MSE, validation': (80.91, 0.68, 83.74, 0.98, '0.001'),
    'RAVDESS A->I MSE, test': (78.42, 0.69, 81.64, 1.38, '0.004'),
    'RAVDESS A->I CE, validation': (82.17, 0.70, 83.22, 0.51, '0.028'),
    'RAVDESS A->I CE, test': (78.83, 0.93, 81.19, 1.58, '0.026'),
    'RAVDESS A->I CLIP, validation': (81.33, 1.23, 83.80, 0.39, '0.009'),
    'RAVDESS F->I, validation': (81.12, 0.23, 82.88, 0.56, '0.001'),
    'RAVDESS F->I, test': (78.60, 0.83, 80.23, 0.95, '0.021'),
    'RAVDESS I->A, validation': (71.92, 1.35, 77.00, 1.48, '< 0.001'),
    'RAVDESS I->A, test': (67.61, 1.82, 76.19, 3.03, '0.001'),
    'MM-IMDB I->T DVIB, micro': (56.74, 0.22, 59.29, 0.16, '< 0.001'),
    'MM-IMDB I->T DVIB, macro': (42.18, 0.48, 47.71, 0.22, '< 0.001'),
    'MM-IMDB I->T SA, micro': (56.74, 0.22, 58.86, 0.54, '< 0.001'),
    'MM-IMDB I->T SA, macro': (42.18, 0.48, 46.51, 0.66, '< 0.001'),
    'MM-IMDB I->T VQ-VAE, micro': (56.74, 0.22, 58.67, 0.45, '< 0.001'),
    'MM-IMDB I->T VQ-VAE, macro': (42.18, 0.48, 46.71, 0.37, '< 0.001'),
    'MM-IMDB F->T DVIB, micro': (58.32, 0.28, 58.73, 0.38, '0.092'),
    'MM-IMDB F->T DVIB, macro': (45.77, 0.16, 47.11, 0.46, '0.002'),
    'MM-IMDB F->T SA, micro': (58.32, 0.28, 58.46, 0.16, '0.370'),
    'MM-IMDB F->T SA, macro': (45.77, 0.16, 46.19, 0.34, '0.051'),
    'MM-IMDB F->T VQ-VAE, micro': (58.32, 0.28, 58.48, 0.18, '0.340'),
    'VGG-Sound V18->A18, validation': (67.34, 0.76, 70.11, 0.40, '< 0.001'),
    'VGG-Sound V18->A18, test': (68.32, 0.49, 70.39, 0.48, '< 0.001'),
    'VGG-Sound A18->V18, validation': (42.61, 0.33, 43.59, 0.57, '0.015'),
    'VGG-Sound V50->A18, validation': (68.53, 0.36, 70.21, 0.28, '< 0.001'),
    'VGG-Sound V50->A18, test': (68.54, 0.34, 70.71, 0.52, '< 0.001'),
    'VGG-Sound A50->V18, validation': (41.40, 0.71, 43.44, 0.33, '0.001'),
    'VGG-Sound A50->V18, test': (40.33, 0.39, 42.95, 0.19, '< 0.001'),
}
# Two printed values do not follow from the printed means and deviations.
EXCEPTIONS = {
    'MM-IMDB F->T VQ-VAE, macro': (45.77, 0.16, 46.44, 0.33, '0.002'),
    'VGG-Sound A18->V18, test': (41.28, 0.57, 42.55, 0.62, '< 0.001'),
}


def agrees(row):
    """Whether the printed p-value is in reach of the printed, rounded, means and deviations."""
    mean_a, std_a, mean_b, std_b, printed = row
    p_values = [
        welch_p_value(mean_a + a, std_a + b, 5, mean_b + c, std_b + d, 5)
        for a, b, c, d in itertools.product((-0.005, 0.005), repeat=4)
    ]
    if printed.startswith('<'):
        return min(p_values) < float(printed[1:])
    half = 0.5 * 10.0 ** -len(printed.split('.')[1])
    return min(p_values) <= float(printed) + half and max(p_values) >= float(printed) - half


@pytest.mark.parametrize('name', PRINTED)
def test_the_papers_p_values_follow_from_its_means(name):
    assert agrees(PRINTED[name])


@pytest.mark.parametrize('name', EXCEPTIONS)
def test_the_papers_exceptions(name):
    assert not agrees(EXCEPTIONS[name])


def test_p_values_without_allowance_for_rounding():
    # From the means and deviations as printed, to the last digit the paper prints.
    assert round(welch_p_value(78.42, 0.69, 5, 81.64, 1.38, 5), 4) == 0.0036
    assert round(welch_p_value(78.60, 0.83, 5, 80.23, 0.95, 5), 4) == 0.0206


def test_the_formula_by_hand():
    mean_a, std_a, n_a, mean_b, std_b, n_b = 1.0, 2.0, 4, 4.0, 1.0, 9
    error_a, error_b = std_a**2 / n_a, std_b**2 / n_b
    freedom = (error_a + error_b) ** 2 / (error_a**2 / (n_a - 1) + error_b**2 / (n_b - 1))
    expected = 2 * student_t.sf((mean_b - mean_a) / math.sqrt(error_a + error_b), freedom)
    assert welch_p_value(mean_a, std_a, n_a, mean_b, std_b, n_b) == pytest.approx(expected)
    # Two-sided: the order does not matter.
    assert welch_p_value(mean_b, std_b, n_b, mean_a, std_a, n_a) == pytest.approx(expected)


def test_nothing_can_be_said_where_nothing_varies():
    assert math.isnan(welch_p_value(1.0, 0.0, 5, 2.0, 0.0, 5))
    assert welch_p_value(1.0, 0.0, 5, 2.0, 0.1, 5) < 1e-4


def test_sample_deviation():
    scores = [3.0, 4.5, 8.0]
    mean, deviation = mean_and_deviation(scores)
    assert mean == pytest.approx(statistics.mean(scores))
    assert deviation == pytest.approx(statistics.stdev(scores))


def test_what_is_no_sample_is_refused():
    with pytest.raises(ConfigError, match='at least two runs; got 1'):
        mean_and_deviation([1.0])
    with pytest.raises(ConfigError, match=r'runs \[1\]'):
        mean_and_deviation([1.0, float('nan')])
    with pytest.raises(ConfigError, match='got 1 and 5'):
        welch_p_value(1, 1, 1, 2, 1, 5)
    with pytest.raises(ConfigError, match='not negative'):
        welch_p_value(1, -1, 5, 2, 1, 5)
