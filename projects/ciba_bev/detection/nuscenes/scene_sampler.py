"""A sampler that gives whole scenes to each process."""

from __future__ import annotations

from typing import Iterator, Sequence, Sized

import mmengine
from mmengine.dist import get_dist_info
from mmengine.utils import digit_version
from torch.utils.data import Sampler

from ...errors import CibaError
from ...registry import DATA_SAMPLERS

# The first version that keeps all results if processes have different numbers of them.
_MMENGINE_FOR_UNEQUAL_RUNS = '0.10.3'


@DATA_SAMPLERS.register_module()
class SceneSequenceSampler(Sampler):
    """Give each process whole scenes, with their frames in order, and every sample exactly once.

    The predictions of a model with state from frame to frame are then the same on any number of
    processes, whereas mmengine's sampler distributes single frames. Processes may have different
    numbers of samples, or none if there are more processes than scenes.

    Args:
        dataset: The dataset. If it has a method ``scenes``, which lists the samples of each scene
            in order, scenes are distributed evenly. Otherwise each process gets a consecutive part
            of the samples.
        seed: Not used; mmengine passes it to every sampler.

    Raises:
        CibaError: The processes have different numbers of samples, and the version of mmengine
            would lose results.
    """

    def __init__(self, dataset: Sized, seed: int | None = None) -> None:
        rank, world_size = get_dist_info()
        if hasattr(dataset, 'scenes'):
            runs = _distribute(dataset.scenes(), world_size)
        else:
            cuts = [len(dataset) * part // world_size for part in range(world_size + 1)]
            runs = [list(range(start, end)) for start, end in zip(cuts, cuts[1:])]
        lengths = {len(run) for run in runs}
        required = digit_version(_MMENGINE_FOR_UNEQUAL_RUNS)
        if len(lengths) > 1 and digit_version(mmengine.__version__) < required:
            raise CibaError(
                f'mmengine {mmengine.__version__} loses results if processes have different '
                f'numbers of samples, here {min(lengths)} to {max(lengths)}. Install mmengine '
                f'{_MMENGINE_FOR_UNEQUAL_RUNS} or later, or test with one process.'
            )
        self._run = runs[rank]

    def __iter__(self) -> Iterator[int]:
        """Yield this process's indices."""
        return iter(self._run)

    def __len__(self) -> int:
        """Count this process's samples."""
        return len(self._run)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the order is the same in every epoch.

        Args:
            epoch: Epoch number, from mmengine's loop.
        """


def _distribute(scenes: Sequence[Sequence[int]], processes: int) -> list[list[int]]:
    """Give each scene, the longest first, to the process with the fewest frames so far."""
    owned: list[list[int]] = [[] for _ in range(processes)]
    frames = [0] * processes
    for scene in sorted(range(len(scenes)), key=lambda number: -len(scenes[number])):
        process = frames.index(min(frames))
        owned[process].append(scene)
        frames[process] += len(scenes[scene])
    return [[index for scene in sorted(mine) for index in scenes[scene]] for mine in owned]
