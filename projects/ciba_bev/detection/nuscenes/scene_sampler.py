"""Testing in scene order on several processes."""

from __future__ import annotations

from typing import Iterator, Sized

from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from ...registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class SceneSequenceSampler(Sampler):
    """Gives each process one run of consecutive frames, in scene order.

    A model that carries state from frame to frame needs its frames in order, where mmengine's
    sampler deals them out in turns. mmengine collects results by taking one of each process in
    turn and cutting the list to the dataset's size, which drops what comes last in the *last*
    processes. So the first (samples modulo processes) processes get one sample more, and the
    others repeat their last one in the place that is cut.

    A scene that is divided between two processes loses its history once, at the division.

    Args:
        dataset: The dataset. If it has a method ``scene_order``, samples come in that order, else
            in the dataset's.
        seed: Not used: nothing is drawn. mmengine passes it to every sampler.
    """

    def __init__(self, dataset: Sized, seed: int | None = None) -> None:
        rank, world_size = get_dist_info()
        order = list(getattr(dataset, 'scene_order', lambda: range(len(dataset)))())
        smaller, larger_runs = divmod(len(order), world_size)
        start = rank * smaller + min(rank, larger_runs)
        run = order[start : start + smaller + (rank < larger_runs)]
        if larger_runs and rank >= larger_runs:
            run.append(run[-1] if run else order[-1])
        self._run = run

    def __iter__(self) -> Iterator[int]:
        """Yields this process's indices."""
        return iter(self._run)

    def __len__(self) -> int:
        """Counts this process's samples, the repeated one included."""
        return len(self._run)

    def set_epoch(self, epoch: int) -> None:
        """Does nothing: the order is the same in every epoch.

        Args:
            epoch: Epoch number, from mmengine's loop.
        """
