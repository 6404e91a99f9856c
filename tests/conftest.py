"""Data that tests share."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests, so that all processes end at about one time."""
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope='session')
def simulated_nuscenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny simulated data set in nuScenes format, with its info files.

    Two scenes of seven frames: ``scene-0061`` (training) and ``scene-0103`` (validation), with one
    LiDAR sweep between key frames and the CAN bus expansion. Tests must not change it: all worker
    processes of pytest-xdist share it.
    """
    shared = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        shared = shared.parent
    root = shared / 'simulated_nuscenes'
    with (shared / 'simulated_nuscenes.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            partial = tmp_path_factory.mktemp('simulated') / 'nuscenes'
            _simulate_nuscenes(partial)
            partial.rename(root)
    return root


def _simulate_nuscenes(root: Path) -> None:
    from ciba_bev.detection.nuscenes.info_creation import create_info_files
    from nuscenes_simulation import SimulationSettings, simulate_nuscenes

    settings = SimulationSettings(
        frames_per_scene=7,
        image_width=96,
        image_height=54,
        supersampling=1,
        lidar_azimuth_steps=180,
        sweeps_per_keyframe=1,
        can_bus=True,
    )
    simulate_nuscenes(root, ['scene-0061', 'scene-0103'], seed=0, settings=settings)
    create_info_files(root, 'v1.0-mini')


@pytest.fixture(scope='session')
def real_frame() -> Path:
    """The folder with one real nuScenes key frame, which is not part of the repository."""
    folder = REPOSITORY.parent / 'shared' / 'nuscenes_frame'
    if not folder.is_dir():
        pytest.skip(f'the real nuScenes frame is not at {folder}')
    return folder
