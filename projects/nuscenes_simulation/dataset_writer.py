"""Write a simulated data set: scenes, recorded in parallel, and tables."""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import shutil
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Iterator

import cv2
from rich.progress import Progress

from .can_bus import pose_messages
from .errors import SettingsError, SimulationError
from .nuscenes_tables import TABLE_NAMES, Tables, constant_tables, empty_tables
from .scene_recording import RecordedFrame, build_scene, record_frame
from .scene_tables import scene_tables
from .sensor_rig import CAMERA_CHANNELS, LIDAR_CHANNEL
from .settings import KEY_FRAME_INTERVAL, SimulationSettings


def simulate_nuscenes(
    output_dir: str | os.PathLike,
    scene_names: list[str],
    seed: int,
    settings: SimulationSettings | None = None,
    *,
    workers: int = 1,
    show_progress: bool = False,
) -> pathlib.Path:
    """Simulate scenes and write them as a nuScenes data set.

    The files are written to a temporary folder beside `output_dir`, which is renamed at the end, so
    that an interrupted run leaves nothing under the final name. Temporary folders of killed runs
    are removed by the next run. The files do not depend on `workers`.

    Args:
        output_dir: Data root to create; it must not exist or be empty.
        scene_names: nuScenes scene names.
        seed: Seed, at least 0.
        settings: Size and density; None for the defaults.
        workers: Number of processes.
        show_progress: Whether to show a progress bar.

    Returns:
        The data root.

    Raises:
        SettingsError: An argument is invalid.
        SimulationError: The folder is not empty or cannot be written, or a worker died.
    """
    settings = settings or SimulationSettings()
    if seed < 0:
        raise SettingsError(f'the seed is {seed}; choose 0 or more')
    if workers < 1:
        raise SettingsError(f'the number of workers is {workers}; choose 1 or more')
    if not scene_names:
        raise SettingsError('no scene to simulate')
    root = pathlib.Path(output_dir).absolute()
    _check_output_dir(root)
    _check_disk_space(root, len(scene_names), settings)
    with _temporary_root(root) as temporary:
        _make_folders(temporary, settings)
        tables = constant_tables(
            {LIDAR_CHANNEL: 'lidar', **dict.fromkeys(CAMERA_CHANNELS, 'camera')}
        )
        recordings = _record_scenes(scene_names, seed, settings, temporary, workers, show_progress)
        for name in scene_names:
            scene = build_scene(name, seed, _duration(settings))
            _extend(tables, scene_tables(scene, settings, recordings[name], temporary))
            if settings.can_bus:
                messages = pose_messages(scene, _duration(settings))
                path = temporary / 'can_bus' / f'{name}_pose.json'
                path.write_text(json.dumps(messages))
        for table_name in TABLE_NAMES:
            path = temporary / settings.version / f'{table_name}.json'
            path.write_text(json.dumps(tables[table_name], indent=0))
    return root


def _duration(settings: SimulationSettings) -> float:
    return settings.frames_per_scene * KEY_FRAME_INTERVAL


def _extend(tables: Tables, more: Tables) -> None:
    for name in empty_tables():
        tables[name].extend(more[name])


def _check_output_dir(root: pathlib.Path) -> None:
    if root.is_file():
        raise SimulationError(f'{root} is a file; choose a folder')
    if root.is_dir() and any(root.iterdir()):
        raise SimulationError(f'{root} is not empty; remove it or choose another folder')


def _check_disk_space(root: pathlib.Path, scene_count: int, settings: SimulationSettings) -> None:
    """Check that the disk has enough space for the data set."""
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    # A JPEG of this quality takes well under one byte a pixel; a LiDAR point takes 20 bytes.
    images = 6 * settings.image_width * settings.image_height
    rays = settings.lidar_beams * settings.lidar_azimuth_steps
    lidar = 20 * rays * (1 + settings.sweeps_per_keyframe)
    needed = scene_count * settings.frames_per_scene * (images + lidar)
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise SimulationError(
            f'the data set needs up to {needed / 1e9:.1f} GB but the disk of {existing} has '
            f'{free / 1e9:.1f} GB left; free some or choose smaller images or fewer scenes'
        )


@contextlib.contextmanager
def _temporary_root(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield a temporary folder that becomes `root` on success and is removed on failure."""
    prefix = f'.{root.name}.simulating-'
    temporary = None
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(root.parent, prefix)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=root.parent))
        with _lock(temporary):
            yield temporary
            temporary.chmod(0o755)
            if root.exists():
                root.rmdir()
            os.replace(temporary, root)
    except OSError as error:
        cause = error.strerror or error
        raise SimulationError(
            f'{root}: cannot be written ({cause}); free some space or choose another folder'
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _lock(folder: pathlib.Path) -> Iterator[None]:
    """Lock a folder; the system releases the lock if the process is killed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove_abandoned(parent: pathlib.Path, prefix: str) -> None:
    """Remove the temporary folders of killed runs."""
    for folder in parent.glob(f'{prefix}*'):
        with contextlib.suppress(OSError), _lock(folder):
            shutil.rmtree(folder)


def _make_folders(root: pathlib.Path, settings: SimulationSettings) -> None:
    for channel in (LIDAR_CHANNEL, *CAMERA_CHANNELS):
        (root / 'samples' / channel).mkdir(parents=True)
    (root / 'sweeps' / LIDAR_CHANNEL).mkdir(parents=True)
    (root / 'maps').mkdir()
    (root / settings.version).mkdir()
    if settings.can_bus:
        (root / 'can_bus').mkdir()


def _record_part(
    name: str, seed: int, settings: SimulationSettings, indices: list[int], root: pathlib.Path
) -> tuple[str, list[RecordedFrame]]:
    """Record some key frames of a scene; runs in a worker."""
    scene = build_scene(name, seed, _duration(settings))
    return name, [record_frame(scene, settings, index, root) for index in indices]


def _end_with_parent() -> None:
    """End this worker when its parent ends; its queue is kept open by the other workers."""
    sentinel = multiprocessing.parent_process().sentinel

    def watch() -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _single_threaded_opencv() -> Iterator[None]:
    """Prevent OpenCV from starting threads, for which a forked worker would wait forever."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _record_scenes(
    scene_names: list[str],
    seed: int,
    settings: SimulationSettings,
    root: pathlib.Path,
    workers: int,
    show_progress: bool,
) -> dict[str, list[RecordedFrame]]:
    """Record all key frames, in this process or in several."""
    # Few frames per task, for the progress bar and an even load, but enough to make up for building
    # the scene in every task.
    part = max(1, min(10, settings.frames_per_scene // 2))
    tasks = [
        (name, list(range(first, min(first + part, settings.frames_per_scene))))
        for name in scene_names
        for first in range(0, settings.frames_per_scene, part)
    ]
    recordings: dict[str, list[RecordedFrame]] = {name: [] for name in scene_names}
    with contextlib.ExitStack() as stack:
        stack.enter_context(_single_threaded_opencv())
        progress = stack.enter_context(Progress(disable=not show_progress))
        bar = progress.add_task(
            'recording key frames', total=len(scene_names) * settings.frames_per_scene
        )
        if workers == 1:
            results = (_record_part(name, seed, settings, indices, root) for name, indices in tasks)
        else:
            methods = multiprocessing.get_all_start_methods()
            context = multiprocessing.get_context('fork' if 'fork' in methods else 'spawn')
            pool = stack.enter_context(ProcessPoolExecutor(workers, context, _end_with_parent))
            futures = [
                pool.submit(_record_part, name, seed, settings, indices, root)
                for name, indices in tasks
            ]
            results = (future.result() for future in futures)
        try:
            for name, frames in results:
                recordings[name].extend(frames)
                progress.advance(bar, len(frames))
        except BrokenProcessPool as error:
            raise SimulationError(
                'a process that records frames died, perhaps because memory ran out; choose fewer '
                'workers'
            ) from error
    return recordings
