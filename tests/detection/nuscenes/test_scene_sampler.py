from __future__ import annotations

import itertools
import random

import mmengine
import pytest

from ciba_bev.detection.nuscenes import scene_sampler
from ciba_bev.detection.nuscenes.scene_sampler import SceneSequenceSampler
from ciba_bev.errors import CibaError


class InScenes(list):
    """A dataset that knows which of its samples follow each other."""

    def scenes(self):
        return list(self)

    def __len__(self):
        return sum(map(len, self))


def scenes_of(lengths, seed=0):
    """Scenes of these lengths, their frames anywhere in the dataset."""
    indices = list(range(sum(lengths)))
    random.Random(seed).shuffle(indices)
    ends = list(itertools.accumulate(lengths))
    return InScenes(indices[end - length : end] for length, end in zip(lengths, ends))


def runs_of_all_ranks(monkeypatch, dataset, world_size):
    runs = []
    for rank in range(world_size):
        monkeypatch.setattr(scene_sampler, 'get_dist_info', lambda rank=rank: (rank, world_size))
        sampler = SceneSequenceSampler(dataset, seed=0)
        runs.append(list(sampler))
        assert len(sampler) == len(runs[-1])
    return runs


LENGTHS = [[40] * 19, [41, 40, 40, 39, 12], [7], [5, 5], [1, 2, 3, 4, 5, 6, 7]]


@pytest.mark.parametrize(('lengths', 'world_size'), itertools.product(LENGTHS, [1, 2, 3, 4, 8]))
def test_every_process_has_whole_scenes_in_order(monkeypatch, lengths, world_size):
    dataset = scenes_of(lengths)
    runs = runs_of_all_ranks(monkeypatch, dataset, world_size)
    assert sorted(itertools.chain(*runs)) == list(range(len(dataset)))
    for scene in dataset:
        (run,) = (run for run in runs if scene[0] in run)
        start = run.index(scene[0])
        assert run[start : start + len(scene)] == scene
    # As evenly as scenes allow: the fullest would not be fullest without its last scene.
    assert max(map(len, runs)) - min(map(len, runs)) <= max(lengths)


@pytest.mark.parametrize(
    ('size', 'world_size'), itertools.product([1, 2, 7, 8, 9, 31], [1, 2, 3, 4, 8])
)
def test_samples_without_scenes_are_dealt_out_in_equal_runs(monkeypatch, size, world_size):
    runs = runs_of_all_ranks(monkeypatch, range(size), world_size)
    assert list(itertools.chain(*runs)) == list(range(size))
    assert max(map(len, runs)) - min(map(len, runs)) <= 1


def test_an_mmengine_that_would_lose_results_is_refused(monkeypatch):
    monkeypatch.setattr(mmengine, '__version__', '0.10.2')
    runs_of_all_ranks(monkeypatch, scenes_of([5, 5]), 2)
    runs_of_all_ranks(monkeypatch, scenes_of([5, 4]), 1)
    with pytest.raises(CibaError, match=r'0\.10\.2.*4 to 5.*0\.10\.3'):
        runs_of_all_ranks(monkeypatch, scenes_of([5, 4]), 2)
