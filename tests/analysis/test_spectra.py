import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing

from ciba_bev.analysis import FeatureCovariance, effective_rank, spectra
from ciba_bev.errors import CibaError, ConfigError


def batches(seed=0, channels=6, offset=0.0):
    """Correlated vectors in four batches of different sizes."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    mean = offset * torch.randn(channels, generator=generator, dtype=torch.float64)
    return [
        torch.randn(count, channels, generator=generator, dtype=torch.float64) @ mixing + mean
        for count in (7, 1, 64, 20)
    ]


def accumulate(parts):
    covariance = FeatureCovariance()
    for part in parts:
        covariance.update(part)
    return covariance


@pytest.mark.parametrize('offset', [0.0, 1e3, 1e7])
def test_mean_and_covariance_are_those_of_all_vectors_together(offset):
    parts = batches(offset=offset)
    together = torch.cat(parts).numpy()
    covariance = accumulate(parts)
    # What a float64 can resolve at this offset, squared sums of raw values could not.
    tolerance = 1e-12 + 1e-15 * offset
    expected = np.cov(together, rowvar=False, bias=True)
    np.testing.assert_allclose(covariance.covariance, expected, rtol=1e-9, atol=tolerance)
    squares = np.square(together).mean(0)
    share = covariance.channel_energy(2).second_moment
    assert share == pytest.approx(squares[:2].sum() / squares.sum(), rel=1e-12)


def test_batches_whose_means_lie_far_apart():
    parts = [part + 1e6 * i for i, part in enumerate(batches())]
    expected = np.cov(torch.cat(parts).numpy(), rowvar=False, bias=True)
    np.testing.assert_allclose(accumulate(parts).covariance, expected, rtol=1e-12)


def test_every_cell_of_a_grid_is_a_vector():
    grid = torch.randn(3, 5, 4, 7, generator=torch.Generator().manual_seed(1))
    vectors = grid.permute(0, 2, 3, 1).reshape(-1, 5)
    on_grid, flat = accumulate([grid]), accumulate([vectors])
    np.testing.assert_allclose(on_grid.covariance, flat.covariance, rtol=1e-12)
    # As a tap gives them: a view with the channels last in memory.
    view = vectors.reshape(3, 4, 7, 5).movedim(-1, 1)
    np.testing.assert_allclose(accumulate([view]).covariance, flat.covariance, rtol=1e-12)


@pytest.mark.parametrize('numbers', [1, 40, 150, 10_000])
def test_the_chunk_size_changes_nothing(monkeypatch, numbers):
    grid = torch.randn(3, 5, 4, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = accumulate([grid])
    monkeypatch.setattr(spectra, '_CHUNK_NUMBERS', numbers)
    chunked = accumulate([grid])
    np.testing.assert_allclose(chunked.covariance, expected.covariance, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_reduced_precision_is_summed_in_double(dtype):
    features = (torch.randn(500, 4, generator=torch.Generator().manual_seed(2)) + 30).to(dtype)
    expected = np.cov(features.double().numpy(), rowvar=False, bias=True)
    np.testing.assert_allclose(accumulate([features]).covariance, expected, rtol=1e-12)


def test_gradients_and_the_features_are_left_alone():
    features = torch.randn(4, 3, requires_grad=True)
    before = features.detach().clone()
    covariance = accumulate([features])
    assert torch.equal(features.detach(), before)
    assert not covariance._scatter.requires_grad


def test_merging_equals_one_accumulator():
    parts = batches(offset=1e3)
    first, second = accumulate(parts[:2]), accumulate(parts[2:])
    left = second.covariance
    first.merge(second)
    np.testing.assert_array_equal(second.covariance, left)
    np.testing.assert_allclose(first.covariance, accumulate(parts).covariance, rtol=1e-11)
    empty = FeatureCovariance()
    empty.merge(first)
    empty.merge(FeatureCovariance())
    merged = first.covariance
    np.testing.assert_array_equal(empty.covariance, merged)
    # The copy has a life of its own.
    empty.update(parts[0])
    np.testing.assert_array_equal(first.covariance, merged)


def reduce_over_processes(rank, folder):
    """What each of the processes does in the test below."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=3
    )
    parts = batches(offset=1e3)
    # The last process has had no batch.
    covariance = accumulate([parts[:1], parts[1:], []][rank])
    covariance.all_reduce()
    np.savez(
        f'{folder}/{rank}.npz',
        covariance=covariance.covariance,
        energy=covariance.channel_energy(2),
    )
    message = ''
    try:
        accumulate([torch.zeros(2, 3 + rank)]).all_reduce()
    except CibaError as error:
        message = str(error)
    assert '3 and of 5 channels' in message
    torch.distributed.destroy_process_group()


def test_all_processes_end_with_the_whole(tmp_path):
    # Forked, for starting afresh would take each of them seconds of imports.
    torch.multiprocessing.start_processes(
        reduce_over_processes, args=(str(tmp_path),), nprocs=3, start_method='fork'
    )
    whole = accumulate(batches(offset=1e3))
    for rank in range(3):
        reduced = np.load(tmp_path / f'{rank}.npz')
        np.testing.assert_allclose(reduced['covariance'], whole.covariance, rtol=1e-10)
        np.testing.assert_allclose(reduced['energy'], whole.channel_energy(2), rtol=1e-10)


def test_without_other_processes_reducing_changes_nothing():
    covariance = accumulate(batches())
    before = covariance.covariance
    covariance.all_reduce()
    np.testing.assert_array_equal(covariance.covariance, before)


def test_singular_values_are_squares_of_those_of_the_centred_features():
    features = torch.cat(batches(offset=5.0))
    centred = features - features.mean(0)
    expected = torch.linalg.svdvals(centred).square().numpy() / len(features)
    values = accumulate([features]).singular_values()
    np.testing.assert_allclose(values, expected, rtol=1e-10)


def test_the_effective_rank_of_constant_features_is_zero():
    assert accumulate([torch.ones(5, 4)]).effective_rank() == 0


def test_effective_rank_of_known_spectra():
    assert effective_rank(np.ones(7)) == pytest.approx(7)
    assert effective_rank(torch.tensor([3.0, 0, 0])) == pytest.approx(1)
    assert effective_rank(np.array([0.0, 2.0, 2.0])[::-1]) == pytest.approx(2)
    # Entropy of (1/2, 1/4, 1/4) is 1.5 bit.
    assert effective_rank(np.array([4.0, 2.0, 2.0])) == pytest.approx(2**1.5)
    corners = torch.cat([torch.eye(4), -torch.eye(4)])
    assert effective_rank(corners) == pytest.approx(4)
    assert effective_rank(torch.arange(10.0)[:, None] * torch.ones(5)) == pytest.approx(1)


def test_energy_of_the_first_channels():
    # Channels with variances 1, 4, 1 and means 0, 0, 2.
    signs = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    covariance = accumulate([signs * torch.tensor([1.0, 2, 1]) + torch.tensor([0.0, 0, 2])])
    assert covariance.channel_energy(2).variance == pytest.approx(5 / 6)
    assert covariance.channel_energy(2).second_moment == pytest.approx(5 / 10)
    assert covariance.channel_energy(3) == pytest.approx((1, 1))
    assert accumulate([torch.zeros(2, 3)]).channel_energy(1) == (0, 0)
    with pytest.raises(ConfigError, match='no first 4 channels in a feature of 3'):
        covariance.channel_energy(4)


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
def test_a_batch_that_is_not_finite_is_refused_whole(bad):
    covariance = accumulate(batches(channels=3))
    before = covariance.covariance
    features = torch.zeros(4, 3, 5)
    features[2, 1, 3] = bad
    with pytest.raises(CibaError, match=r'1 of 60 feature values .* in samples \[2\]'):
        covariance.update(features)
    np.testing.assert_array_equal(covariance.covariance, before)


def test_what_does_not_fit_is_refused():
    covariance = accumulate([torch.ones(2, 3)])
    with pytest.raises(ConfigError, match='4 channels, those before had 3'):
        covariance.update(torch.ones(2, 4))
    with pytest.raises(ConfigError, match='4 channels with features of 3'):
        covariance.merge(accumulate([torch.ones(2, 4)]))
    with pytest.raises(ConfigError, match=r'shape \(5,\)'):
        covariance.update(torch.ones(5))
    with pytest.raises(CibaError, match='no features were accumulated'):
        FeatureCovariance().singular_values()
    with pytest.raises(CibaError, match='no features were accumulated'):
        effective_rank(torch.empty(0, 3))
    with pytest.raises(ConfigError, match='do not pass their logarithms'):
        effective_rank(np.array([1.0, -2.0]))
