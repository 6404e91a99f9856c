import numpy as np
import pytest
import torch

from ciba_bev.analysis import FeatureCovariance, measure_saturation
from ciba_bev.distillation import VariationalBottleneck
from ciba_bev.errors import ConfigError

SIZES = (2, 4, 8, 16, 32, 64)


def truncated(spectrum, sizes=SIZES, tail=0.0):
    """What decoders give that reproduce the leading H directions and hardly any other."""
    spectrum = np.asarray(spectrum, dtype=float)
    index = np.arange(spectrum.size)
    return {size: np.where(index < size, spectrum, tail * spectrum) for size in sizes}


def flat(rank, channels=64):
    return np.where(np.arange(channels) < rank, 1.0, 0.0)


def propose(spectra, **options):
    return measure_saturation(spectra, **options).bottleneck_size


@pytest.mark.parametrize('rank', [2, 4, 8, 16, 32])
@pytest.mark.parametrize('tail', [0.0, 1e-17, 1e-9, 1e-5])
def test_the_rank_of_what_can_be_decoded_is_found_whatever_the_tail(rank, tail):
    assert propose(truncated(flat(rank), tail=tail)) == rank


def test_a_size_between_those_tried_is_rounded_up():
    assert propose(truncated(flat(11))) == 16


@pytest.mark.parametrize(('ratio', 'expected'), [(0.1, 4), (0.4, 8), (0.6, 16)])
def test_decaying_spectra_saturate_where_the_rest_is_insignificant(ratio, expected):
    # 0.1^3, 0.4^7.5 and 0.6^13.5 are a thousandth: from there on no direction counts.
    assert propose(truncated(ratio ** np.arange(64.0))) == expected


def test_the_scale_of_the_features_does_not_matter():
    spectra = truncated(0.4 ** np.arange(64.0))
    for scale in (1e-12, 1e12):
        assert propose({h: scale * s for h, s in spectra.items()}) == 8


def test_noise_of_a_few_percent_does_not_matter():
    generator = np.random.default_rng(0)
    spectra = {
        size: spectrum * generator.lognormal(0, 0.05, spectrum.size)
        for size, spectrum in truncated(flat(8), tail=1e-6).items()
    }
    assert propose(spectra) == 8


@pytest.mark.parametrize('shared', [2, 8, 16])
def test_best_linear_decoders_of_sampled_features(shared):
    # Teacher and student share `shared` dimensions, the rest of each is its own. The best decoder
    # from H numbers is the regression of one on the other, cut to rank H.
    generator = torch.Generator().manual_seed(shared)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    common = normal(4000, shared)
    teacher = torch.cat([common, normal(4000, 40)], 1) @ normal(shared + 40, 64)
    student = torch.cat([common, normal(4000, 40)], 1) @ normal(shared + 40, 64)
    predicted = teacher @ torch.linalg.lstsq(teacher, student).solution
    u, s, v = torch.linalg.svd(predicted, full_matrices=False)
    spectra = {}
    for size in SIZES:
        decoded = FeatureCovariance()
        decoded.update(u[:, :size] * s[:size] @ v[:size])
        spectra[size] = decoded.singular_values()
    # Chance correlations of 4000 samples explain a little of the rest: 64 / 4000 of its variance.
    assert propose(spectra, significant_share=0.03) == shared


def test_a_spectrum_that_rises_later_on_has_not_saturated():
    spectra = truncated(flat(4), sizes=(2, 4, 8, 16))
    spectra[16] = 5 * spectra[16]
    saturation = measure_saturation(spectra)
    assert saturation.bottleneck_size == 16
    assert saturation.largest_gains[8] == pytest.approx(np.log10(5))


def test_a_spectrum_that_falls_later_on_asks_for_no_more_channels():
    spectra = truncated(flat(4), sizes=(2, 4, 8, 16))
    spectra[16] = 0.2 * spectra[16]
    assert propose(spectra) == 4


def test_without_saturation_the_largest_size_is_proposed():
    saturation = measure_saturation(truncated(np.ones(64)))
    assert saturation.bottleneck_size == 64
    # Half of the directions rise by the three decades that count.
    assert saturation.largest_gains[32] == pytest.approx(1.5)


def test_gains_are_means_over_the_significant_directions():
    spectra = {2: [1.0, 0.1, 0.0, 0.0], 4: [1.0, 0.1, 0.01, 0.0], 8: [1.0, 0.2, 0.01, 1e-9]}
    saturation = measure_saturation(spectra, threshold=0.2)
    # The third direction is missing in the first: raised to 0.001, one decade of three directions.
    assert saturation.largest_gains == pytest.approx({2: (1 + np.log10(2)) / 3, 4: np.log10(2) / 3})
    assert saturation.bottleneck_size == 4
    assert measure_saturation(spectra, threshold=0.05).bottleneck_size == 8


def test_the_order_of_the_sizes_does_not_matter():
    spectra = truncated(flat(8))
    assert propose(dict(reversed(list(spectra.items())))) == 8


def test_what_is_no_set_of_spectra_is_refused():
    with pytest.raises(ConfigError, match=r'at least two; got \[4\]'):
        propose({4: [1.0, 0.5]})
    with pytest.raises(ConfigError, match='different numbers of channels'):
        propose({4: [1.0, 0.5], 8: [1.0]})
    with pytest.raises(ConfigError, match='H = 8 has values that are negative'):
        propose({4: [1.0, 0.5], 8: [0.0, -1.0]})
    with pytest.raises(ConfigError, match=r'H = 4 has shape \(0,\)'):
        propose({4: [], 8: [1.0]})
    with pytest.raises(ConfigError, match='all decoded features are constant'):
        propose({4: [0.0, 0.0], 8: [0.0, 0.0]})
    with pytest.raises(ConfigError, match='threshold is 0'):
        propose({4: [1.0], 8: [1.0]}, threshold=0)


@pytest.mark.parametrize('shared', [4, 8])
def test_trained_variational_bottlenecks_tell_how_much_two_features_share(shared):
    # Both features are random networks of dimensions they share and of eight of their own.
    torch.manual_seed(shared)
    channels, samples, steps = 64, 4096, 250
    common = torch.randn(samples, shared)

    def feature():
        inputs = torch.cat([common, torch.randn(samples, 8)], 1)
        weights = torch.randn(shared + 8, 256) / (shared + 8) ** 0.5
        z = torch.relu(inputs @ weights + 0.3 * torch.randn(256)) @ torch.randn(256, channels)
        return (z - z.mean(0)) / z.std()

    teacher, student = feature(), feature()
    spectra = {}
    for size in (2, 4, 8, 16):
        bottleneck = VariationalBottleneck(channels, size, channels, regularization_weight=0.1)
        optimizer = torch.optim.AdamW(bottleneck.parameters(), lr=3e-3)
        for _ in range(steps):
            rows = torch.randint(0, samples, (256,))
            loss = sum(bottleneck(teacher[rows], student[rows]).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        decoded = FeatureCovariance()
        with torch.no_grad():
            decoded.update(bottleneck.decode(bottleneck.encode(teacher)))
        spectra[size] = decoded.singular_values()
    saturation = measure_saturation(spectra)
    assert saturation.bottleneck_size == shared
    # Not by a hair on either side of the threshold.
    assert saturation.largest_gains[shared] < 0.08
    assert saturation.largest_gains[shared // 2] > 0.2
