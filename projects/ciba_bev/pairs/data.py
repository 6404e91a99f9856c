"""Load one batch for each model of a pair, and add the teacher's inputs to the student's data."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import Runner

from ..engine.config_checks.nested import dicts_with, find_dataset, registered_class
from ..errors import CibaError, ConfigError
from .tap_finder import TapCandidate, TapFinder

_STAGES = ('val', 'test', 'train')
# Each input, with the word that the names of its loading transforms contain.
_LOADERS = {'points': 'Points', 'img': 'Image'}
_MODALITIES = {'points': 'use_lidar', 'img': 'use_camera'}


@dataclass
class PairModel:
    """One of the two models of a pair.

    Attributes:
        role: ``'teacher'`` or ``'student'``.
        config: Its config file.
        checkpoint: File with its trained weights, which need not exist yet.
        cfg: Its config, with the overrides of the command line.
        batch: One batch of its data, as the data loader returns it.
        finder: The finder that ran the model on this batch.
        candidates: The features that can be tapped, best first.
        extent: (x_min, y_min, x_max, y_max) of its BEV feature in metres; None if the config has
            no point-cloud range.
        extent_field: The config field that the extent was read from.
    """

    role: str
    config: str
    checkpoint: str
    cfg: Config
    batch: dict
    finder: TapFinder
    candidates: list[TapCandidate]
    extent: list[float] | None
    extent_field: str

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs in its batch."""
        return list(self.batch['inputs'])


def first_batch(cfg: Config, role: str, config: str) -> dict:
    """Return the first batch of the validation, test or training data of a config.

    Args:
        cfg: The config.
        role: ``'teacher'`` or ``'student'``, for messages.
        config: The config file, for messages.

    Returns:
        The batch as the data loader returns it.

    Raises:
        CibaError: The annotation files of none of the three exist.
    """
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    missing: list[str] = []
    for stage in _STAGES:
        loader = cfg.get(f'{stage}_dataloader')
        if not loader:
            continue
        absent = _absent_files(loader)
        if not absent:
            loader = copy.deepcopy(loader)
            loader.update(num_workers=0, persistent_workers=False)
            return next(iter(Runner.build_dataloader(loader, seed=0)))
        missing += absent
    where = ', '.join(dict.fromkeys(missing)) or 'no dataloader in the config'
    raise CibaError(
        f'{config}: the {role} is run on one batch to see its features, and its data are not there '
        f'({where}). Put the data set there, or give its folder with --cfg-options data_root=DIR. '
        'A small data set in nuScenes format is made by `python tools/simulate_nuscenes.py --out '
        'DIR`, then `python tools/create_data.py --root-path DIR --version v1.0-mini`.'
    )


def _absent_files(loader: dict) -> list[str]:
    """Return the annotation files of a data loader that do not exist."""
    absent = []
    for _, dataset in dicts_with(loader, 'ann_file', ''):
        if not dataset.get('backend_args') and dataset['ann_file']:
            path = Path(dataset.get('data_root') or '', dataset['ann_file'])
            if not path.is_file():
                absent.append(str(path))
    return absent


def require_same_form(teacher: PairModel, student: PairModel) -> None:
    """Check that an input that both models read has the same shape in both batches.

    During distillation both models get the same batch. The number of features of a point, for
    instance, may differ between their configs.

    Args:
        teacher: The teacher.
        student: The student.

    Raises:
        ConfigError: The shapes differ.
    """
    for name in teacher.inputs:
        if name not in student.inputs:
            continue
        ours, theirs = (model.batch['inputs'][name][0] for model in (student, teacher))
        if not (isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor)):
            continue
        # The number of points differs from frame to frame; the other sizes must agree.
        first = 1 if name == 'points' else 0
        if ours.shape[first:] != theirs.shape[first:]:
            raise ConfigError(
                f'the teacher and the student both read {name!r}, but the data of '
                f'{teacher.config} give it shape {tuple(theirs.shape)} and those of '
                f'{student.config} {tuple(ours.shape)}. Both are given the same batch: load '
                f'{name!r} in the same way in both configs.'
            )


def add_inputs(loader: dict[str, Any], student: PairModel, teacher: PairModel) -> None:
    """Make the student's data set load the teacher's inputs as well.

    The teacher's loading transforms are put before the student's pipeline, so that the student's
    augmentations apply to both.

    Args:
        loader: A data loader config of the student; changed in place.
        student: The student.
        teacher: The teacher.

    Raises:
        ConfigError: The student's data set has no pipeline, or the teacher's pipeline does not load
            an input.
    """
    names = [name for name in teacher.inputs if name not in student.inputs]
    if not names:
        return
    dataset = find_dataset(loader)
    stage = next((s for s in _STAGES if teacher.cfg.get(f'{s}_dataloader')), None)
    source = None if stage is None else find_dataset(teacher.cfg[f'{stage}_dataloader'].to_dict())
    added = {name: _loaders_of(name, source['pipeline']) if source else [] for name in names}
    if dataset is None or source is None or not all(added.values()):
        raise ConfigError(
            f'the teacher reads {", ".join(map(repr, teacher.inputs))} ({teacher.config}), but the '
            f"student's data set loads {', '.join(map(repr, student.inputs))} ({student.config}), "
            f"and the tool cannot add {', '.join(map(repr, names))} to the student's pipeline "
            "automatically. Extend the student's data in a config of its own so that both are in "
            'each batch, and give that.'
        )
    loaders = [transform for transforms in added.values() for transform in transforms]
    dataset['pipeline'] = [*copy.deepcopy(loaders), *dataset['pipeline']]
    packing = _packing(dataset['pipeline'])
    packing['keys'] = [*names, *packing['keys']]
    theirs = _packing(source['pipeline']).get('meta_keys')
    if theirs and packing.get('meta_keys'):
        packing['meta_keys'] = tuple(dict.fromkeys([*packing['meta_keys'], *theirs]))
    for field, value in (source.get('data_prefix') or {}).items():
        dataset.setdefault('data_prefix', {}).setdefault(field, value)
    if dataset.get('modality') is not None:
        sensors = {_MODALITIES[name]: True for name in names}
        dataset['modality'] = dict(dataset['modality'], **sensors)


def read_features_only(train_loader: dict[str, Any], val_loader: dict[str, Any]) -> None:
    """Load training data without augmentation and annotations, as for validation.

    Args:
        train_loader: Data loader config; changed in place.
        val_loader: Data loader config whose pipeline is copied.
    """
    train, val = find_dataset(train_loader), find_dataset(val_loader)
    if train is None or val is None:
        return
    train['pipeline'] = copy.deepcopy(val['pipeline'])
    if 'modality' in val:
        train['modality'] = copy.deepcopy(val['modality'])
    kind = registered_class(DATASETS, train['type'])
    if any(
        'filter_empty_gt' in inspect.signature(base.__init__).parameters for base in kind.__mro__
    ):
        # Without annotations every frame looks empty.
        train['filter_empty_gt'] = False


def _loaders_of(name: str, pipeline: list[dict]) -> list[dict]:
    """Return the transforms of a pipeline that load an input."""
    word = _LOADERS.get(name)
    types = [str(transform['type']).rsplit('.', 1)[-1] for transform in pipeline]
    return [
        transform
        for transform, kind in zip(pipeline, types)
        if word and kind.startswith('Load') and word in kind
    ]


def _packing(pipeline: list[dict]) -> dict:
    """Return the transform that packs the inputs; an empty dict if there is none."""
    return next((step for step in reversed(pipeline) if step.get('keys') is not None), {})
