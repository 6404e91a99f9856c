"""Variance over samples against NumPy, and what it tells of a map that is half a fixed pattern."""

import numpy as np
import pytest
import torch
import torch.multiprocessing

from ciba_bev.analysis import DynamicVariance
from ciba_bev.errors import CibaError, ConfigError

SHAPE = (7, 3, 4, 5)


def features(seed=0, shape=SHAPE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def accumulate(*batches):
    accumulated = DynamicVariance()
    for batch in batches:
        accumulated.update(batch)
    return accumulated


def test_it_is_the_unbiased_variance_at_each_cell():
    values = features() + 100
    found = accumulate(values[:3], values[3:]).variance()
    expected = values.double().numpy().var(0, ddof=1).mean((1, 2)).sum()
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_fixed_pattern_adds_nothing():
    pattern = 10 * features(1, SHAPE[1:])
    assert accumulate(features() + pattern).variance() == pytest.approx(
        accumulate(features()).variance(), rel=1e-5
    )
    assert accumulate(pattern.expand(SHAPE)).variance() == pytest.approx(0, abs=1e-12)


def test_independent_cells_have_all_of_their_variance_over_samples():
    values = features(shape=(400, 2, 10, 10))
    total = values.var((0, 2, 3)).sum()
    assert accumulate(values).variance() == pytest.approx(float(total), rel=0.02)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(CibaError, match='at least two'):
        accumulate(features()[:1]).variance()
    with pytest.raises(ConfigError, match=r'\(3, 4, 5\)'):
        accumulate(features(), features(shape=(7, 3, 4, 6)))


def work(rank, folder):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=3
    )
    # The last process has had no batch.
    accumulated = accumulate(*([], [features()[:2]], [features()[2:]])[(rank + 1) % 3])
    accumulated.all_reduce()
    np.save(f'{folder}/{rank}.npy', [accumulated.count, accumulated.variance()])
    torch.distributed.destroy_process_group()


def test_processes_agree_on_the_whole(tmp_path):
    torch.multiprocessing.start_processes(work, (str(tmp_path),), nprocs=3, start_method='fork')
    expected = accumulate(features())
    for rank in range(3):
        count, variance = np.load(tmp_path / f'{rank}.npy')
        assert count == len(features())
        assert variance == pytest.approx(expected.variance(), rel=1e-12)
