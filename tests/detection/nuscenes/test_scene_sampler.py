import itertools

import pytest

from ciba_bev.detection.nuscenes import scene_sampler
from ciba_bev.detection.nuscenes.scene_sampler import SceneSequenceSampler


class ScenesInterleaved(list):
    """Even indices are one scene, odd ones another."""

    def scene_order(self):
        return [*range(0, len(self), 2), *range(1, len(self), 2)]


def samplers_of_all_ranks(monkeypatch, dataset, world_size):
    samplers = []
    for rank in range(world_size):
        monkeypatch.setattr(scene_sampler, 'get_dist_info', lambda rank=rank: (rank, world_size))
        samplers.append(SceneSequenceSampler(dataset, seed=0))
    return samplers


@pytest.mark.parametrize(
    ('size', 'world_size'), [*itertools.product([1, 2, 7, 8, 9, 15, 16, 31], [1, 2, 3, 4, 8])]
)
def test_collected_results_are_every_sample_once(monkeypatch, size, world_size):
    samplers = samplers_of_all_ranks(monkeypatch, list(range(size)), world_size)
    runs = [list(sampler) for sampler in samplers]
    assert len({len(run) for run in runs}) == 1, 'ranks would wait for each other for ever'
    assert [len(sampler) for sampler in samplers] == [len(run) for run in runs]
    # As mmengine collects: one result of each rank in turn, cut to the size.
    collected = [result for row in zip(*runs) for result in row][:size]
    assert sorted(collected) == list(range(size))


@pytest.mark.parametrize('world_size', [1, 2, 3, 4])
def test_each_rank_has_a_run_in_scene_order(monkeypatch, world_size):
    dataset = ScenesInterleaved(range(10))
    position = {index: place for place, index in enumerate(dataset.scene_order())}
    for sampler in samplers_of_all_ranks(monkeypatch, dataset, world_size):
        places = [position[index] for index in sampler]
        steps = [after - before for before, after in zip(places, places[1:])]
        assert all(step == 1 for step in steps[:-1])
        assert steps[-1] in (0, 1)
