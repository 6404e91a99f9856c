"""The training batches of a config, and what its data loader takes to give them."""

from __future__ import annotations

import itertools
import os
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ..errors import CibaError
from .measured_process import call_in_process


class LoaderCost(NamedTuple):
    """What one process takes to load a sample.

    Attributes:
        wall_seconds: Time on the clock.
        cpu_seconds: Time of all the process's threads on a processor.
        decoding_seconds: The part of ``cpu_seconds`` in which OpenCV decoded images.
        images: Images decoded.
    """

    wall_seconds: float
    cpu_seconds: float
    decoding_seconds: float
    images: float

    def describe(self) -> str:
        """Return one line for the user."""
        line = (
            f'Loader, one process: {1 / self.wall_seconds:.2f} samples per second, '
            f'{self.cpu_seconds:.3f} CPU-seconds per sample'
        )
        if not self.images:
            return f'{line}.'
        return (
            f'{line}, {self.cpu_seconds / self.decoding_seconds:.2f} times the decoding of its '
            f'{self.images:.0f} images ({self.decoding_seconds:.3f}).'
        )


def build_loader(
    cfg: Config, batch_size: int, image_size: tuple[int, int], folder: Path, batches: int = 2
) -> tuple[DataLoader, str]:
    """Build the training data loader, without worker processes.

    Args:
        cfg: The config. It is not changed.
        batch_size: Samples in a batch.
        image_size: Width and height of images that are simulated if the data set is not there,
            pixels.
        folder: Where simulated data go.
        batches: How many batches to simulate.

    Returns:
        The loader, and where its samples come from.

    Raises:
        CibaError: The data cannot be loaded or simulated, or there are none.
    """
    config = dict(
        cfg.train_dataloader, batch_size=batch_size, num_workers=0, persistent_workers=False
    )
    config.pop('prefetch_factor', None)
    dataset = config['dataset'] = dict(config['dataset'])
    root = dataset.get('data_root')
    source = f'the training data of {cfg.filename}' + (f', in {root}' if root else '')
    if root and not Path(root, dataset['ann_file']).is_file():
        simulated, (width, height) = folder / 'simulated', image_size
        try:
            call_in_process(_simulate, simulated, batches * batch_size, image_size)
        except BrokenProcessPool as error:
            raise CibaError(
                'the process that simulated data died, most likely because memory ran out. Give a '
                'smaller --batch-size or --image-size.'
            ) from error
        dataset.update(data_root=f'{simulated}/', ann_file='nuscenes_infos_train.pkl')
        source = f'simulated frames with images of {width} x {height}: there are no data in {root}'
    loader = Runner.build_dataloader(config, seed=0)
    if not len(loader):
        raise CibaError(f'there is no batch of {batch_size} in {source}.')
    return loader, source


def measure_loader(loader: DataLoader, samples: int = 8) -> LoaderCost:
    """Measure what a loader takes for a sample, with one thread, as in a worker process.

    Args:
        loader: From :func:`build_loader`, after its first batch: the first one does imports.
        samples: How many to load, at least, in whole batches.

    Returns:
        Means over these samples. Files that were just read are in the system's memory.
    """
    decode, decoding, images, loaded = cv2.imdecode, 0.0, 0, 0

    def measured_decode(*arguments: Any, **options: Any) -> Any:
        nonlocal decoding, images
        began = time.process_time()
        image = decode(*arguments, **options)
        decoding += time.process_time() - began
        images += 1
        return image

    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    cv2.imdecode = measured_decode
    try:
        wall, cpu = time.perf_counter(), time.process_time()
        for batch in itertools.chain.from_iterable(itertools.repeat(loader)):
            loaded += len(batch['data_samples'])
            if loaded >= samples:
                break
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    finally:
        cv2.imdecode = decode
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    return LoaderCost(wall / loaded, cpu / loaded, decoding / loaded, images / loaded)


def _simulate(root: Path, frames: int, image_size: tuple[int, int]) -> None:
    """Write a training and a validation scene with sensors like those of nuScenes.

    Runs in a process of its own, whose output is thrown away: converters draw progress bars.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # Here, because only nuScenes data need them and mmdet3d's part is slow to import.
    from nuscenes_simulation import SimulationSettings, simulate_nuscenes

    from ..detection.nuscenes.info_creation import create_info_files

    settings = SimulationSettings(
        frames_per_scene=frames,
        image_width=image_size[0],
        image_height=image_size[1],
        supersampling=1,
        lidar_azimuth_steps=1084,
        lidar_range=70.0,
        sweeps_per_keyframe=9,
    )
    simulate_nuscenes(root, ['scene-0061', 'scene-0103'], seed=0, settings=settings)
    create_info_files(root, settings.version)
