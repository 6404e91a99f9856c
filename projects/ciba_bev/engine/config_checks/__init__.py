"""Check a config before anything is built from it."""

from __future__ import annotations

from typing import Sequence

from mmengine.config import Config
from mmengine.registry import init_default_scope

from .classes import check_camera_counts, check_class_counts, check_class_names
from .evaluators import check_box_limit, check_evaluator_paths
from .grids import check_grids, check_kept_range, check_ranges
from .nested import dicts_with
from .paths import check_data_paths, check_earlier_runs, check_weight_paths, check_work_dir

__all__ = [
    'check_box_limit',
    'check_camera_counts',
    'check_class_counts',
    'check_class_names',
    'check_config',
    'check_data_paths',
    'check_earlier_runs',
    'check_evaluator_paths',
    'check_grids',
    'check_kept_range',
    'check_ranges',
    'check_weight_paths',
    'check_work_dir',
]


def check_config(cfg: Config, stages: Sequence[str] = ('train', 'val')) -> None:
    """Check a config's fields against each other and its paths against the disk.

    The data themselves are checked by :class:`ciba_bev.CheckDataHook`.

    Args:
        cfg: The config.
        stages: The dataloaders that will be used, of ``'train'``, ``'val'`` and ``'test'``.

    Raises:
        ConfigError: The first mistake found, naming the config file and the field.
    """
    name = cfg.filename or 'config'
    model = cfg.get('model') or {}
    datasets = [
        found
        for stage in stages
        if cfg.get(f'{stage}_dataloader')
        for found in dicts_with(cfg[f'{stage}_dataloader'], 'ann_file', f'{stage}_dataloader')
    ]
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    check_grids(model, name)
    check_ranges(model, datasets, name)
    check_kept_range(model, name)
    check_camera_counts(model, datasets, name)
    for field, dataset in datasets:
        check_class_names(dataset, field, name)
        check_data_paths(dataset, field, name)
    check_class_counts(model, datasets, name)
    check_evaluator_paths(cfg, stages, name)
    check_box_limit(cfg, stages, name)
    check_weight_paths(cfg, name)
    check_work_dir(cfg, name)
    if 'train' in stages:
        check_earlier_runs(cfg, name)
