"""Datasets as the configurations build them, on the simulated data."""

from __future__ import annotations

from pathlib import Path

import mmdet3d.datasets
import mmdet3d.datasets.transforms  # noqa: F401
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

import ciba_bev.detection.nuscenes  # noqa: F401
from ciba_bev.registry import DATASETS

CONFIGS = Path(__file__).resolve().parents[3] / 'configs' / '_base_' / 'datasets'


@pytest.fixture(autouse=True)
def _mmdet3d_scope():
    init_default_scope('mmdet3d')


@pytest.fixture
def dataset_file():
    """Reads one of the dataset configurations."""
    return lambda name: Config.fromfile(CONFIGS / f'{name}.py')


@pytest.fixture
def dataset_config(dataset_file, simulated_nuscenes):
    """Gives the configuration of a dataset, with the simulated data in place of nuScenes."""

    def get(name, split='train', **changes):
        config = dataset_file(name)[f'{split}_dataloader'].dataset
        if config.type == 'ciba_bev.CBGSDataset':
            config = config.dataset
        config.data_root = str(simulated_nuscenes)
        config.update(changes)
        return config

    return get


@pytest.fixture
def build_dataset(dataset_config):
    """Builds a dataset of a configuration on the simulated data."""
    return lambda *args, **changes: DATASETS.build(dataset_config(*args, **changes))
