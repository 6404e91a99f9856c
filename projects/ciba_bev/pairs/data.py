"""Data of a pair: a batch of each model's, and the student's data with the teacher's inputs."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS, Registry, init_default_scope
from mmengine.runner import Runner

from ..errors import CibaError
from .tap_finder import TapCandidate, TapFinder

_STAGES = ('val', 'test', 'train')
# What the names of transforms that load an input contain.
_LOADERS = {'points': 'Points', 'img': 'Image'}
_MODALITIES = {'points': 'use_lidar', 'img': 'use_camera'}
_MADE_UP_POINTS = 20000


@dataclass
class PairModel:
    """One of the two models of a pair.

    Attributes:
        role: ``'teacher'`` or ``'student'``.
        config: Its config file.
        checkpoint: Where its trained weights are or will be.
        cfg: Its config, with what the command line overrides.
        batch: One batch of its data, as the data loader gives it.
        finder: Has run the model on that batch.
        candidates: Taps that could serve, best first.
        extent: (x_min, y_min, x_max, y_max) of its maps in metres, None if the config has no range.
        extent_field: Where in the config that was found.
        data_are_real: Whether the batch is of its data set, and not made up.
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
    data_are_real: bool

    @property
    def inputs(self) -> list[str]:
        """Keys of the inputs that its data set gives it."""
        return list(self.batch['inputs'])


def first_batch(cfg: Config, role: str, config: str) -> tuple[dict, bool]:
    """One batch of a config's own data, or one made up where that can be done honestly.

    Args:
        cfg: The config.
        role: Whose it is, for messages.
        config: Its file, for messages.

    Returns:
        The batch as the data loader gives it, and whether it is of the data set.

    Raises:
        CibaError: The data are not there, and the model reads more than LiDAR points, which is all
            that can be made up from a config: images need calibrated cameras.
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
            return next(iter(Runner.build_dataloader(loader, seed=0))), True
        missing += absent
    batch = _made_up_points(cfg)
    if batch is None:
        where = ', '.join(dict.fromkeys(missing)) or 'no dataloader in the config'
        raise CibaError(
            f'{config}: the {role} must be run on one batch to see its features, and its data are '
            f'not there ({where}). Put the data set there, or name its place with '
            '--cfg-options data_root=DIR. A small one in the format of nuScenes is made by `python '
            'tools/simulate_nuscenes.py --out DIR`, then `python tools/create_data.py --root-path '
            'DIR --version v1.0-mini`.'
        )
    return batch, False


def _absent_files(loader: dict) -> list[str]:
    """Annotation files that a data loader names and that are not on the disk."""
    absent = []
    for dataset in _dicts_with(loader, 'ann_file'):
        if not dataset.get('backend_args') and dataset['ann_file']:
            path = Path(dataset.get('data_root') or '', dataset['ann_file'])
            if not path.is_file():
                absent.append(str(path))
    return absent


def _made_up_points(cfg: Config) -> dict | None:
    """A batch of one sample of points all over the range, if points are all that is loaded."""
    loader = next((cfg[f'{s}_dataloader'] for s in _STAGES if cfg.get(f'{s}_dataloader')), None)
    bounds = next(
        (
            part['point_cloud_range']
            for part in _dicts_with(cfg.model, 'point_cloud_range')
            if part['point_cloud_range'] is not None and len(part['point_cloud_range']) == 6
        ),
        None,
    )
    if loader is None or bounds is None:
        return None
    dataset = find_dataset(loader)
    if dataset is None or _packing(dataset['pipeline']).get('keys') != ['points']:
        return None
    # Here only, so that pairs of other libraries' models need no mmdet3d.
    from mmdet3d.structures import Box3DMode, Det3DDataSample, LiDARInstance3DBoxes

    columns = _point_columns(dataset['pipeline'])
    low, high = torch.tensor(bounds, dtype=torch.float32).view(2, 3)
    generator = torch.Generator().manual_seed(0)
    points = torch.zeros(_MADE_UP_POINTS, columns)
    points[:, :3] = low + (high - low) * torch.rand(_MADE_UP_POINTS, 3, generator=generator)
    sample = Det3DDataSample(
        metainfo=dict(box_type_3d=LiDARInstance3DBoxes, box_mode_3d=Box3DMode.LIDAR)
    )
    return dict(inputs=dict(points=[points]), data_samples=[sample])


def _point_columns(pipeline: list[dict]) -> int:
    """How many numbers a point has once it is loaded."""
    columns = 3
    for transform in _loaders_of('points', pipeline):
        use_dim = transform.get('use_dim')
        if use_dim is None:
            kind = _class_of(transform['type'], TRANSFORMS)
            use_dim = inspect.signature(kind.__init__).parameters['use_dim'].default
        columns = use_dim if isinstance(use_dim, int) else len(use_dim)
    return columns


def find_dataset(loader: dict) -> dict | None:
    """The data set of a data loader within its wrappers: the first dict with a pipeline."""
    return next((part for part in _dicts_with(loader, 'pipeline')), None)


def require_same_form(teacher: PairModel, student: PairModel) -> None:
    """Check that an input both models read has the same form for both.

    The two are given the same batch. Points, for instance, may be loaded with another number of
    features each.

    Args:
        teacher: The examined teacher.
        student: The examined student.

    Raises:
        CibaError: The forms differ.
    """
    for name in teacher.inputs:
        if name not in student.inputs:
            continue
        ours, theirs = (side.batch['inputs'][name][0] for side in (student, teacher))
        if not (isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor)):
            continue
        # Points differ in number from frame to frame; images and features must agree.
        first = 1 if name == 'points' else 0
        if ours.shape[first:] != theirs.shape[first:]:
            raise CibaError(
                f'the teacher and the student both read {name!r}, but the data of '
                f'{teacher.config} give it shape {tuple(theirs.shape)} and those of '
                f'{student.config} {tuple(ours.shape)}. Both are given the same batch: load '
                f'{name!r} alike in both configs.'
            )


def add_inputs(loader: dict[str, Any], student: PairModel, teacher: PairModel) -> None:
    """Have the student's data set load what the teacher reads, too.

    What loads the teacher's inputs in its own tests is put before the student's pipeline, so that
    the student's transforms apply to both.

    Args:
        loader: A data loader config of the student's; changed in place.
        student: The examined student.
        teacher: The examined teacher.

    Raises:
        CibaError: The student's data set has no pipeline, or nothing is known to load the input.
    """
    names = [name for name in teacher.inputs if name not in student.inputs]
    if not names:
        return
    dataset = find_dataset(loader)
    stage = next((s for s in _STAGES if teacher.cfg.get(f'{s}_dataloader')), None)
    source = None if stage is None else find_dataset(teacher.cfg[f'{stage}_dataloader'].to_dict())
    added: list[dict] = []
    if dataset is not None and source is not None:
        for name in names:
            added += _loaders_of(name, source['pipeline'])
    if dataset is None or any(
        not (source and _loaders_of(name, source['pipeline'])) for name in names
    ):
        raise CibaError(
            f'the teacher reads {", ".join(map(repr, teacher.inputs))} ({teacher.config}), but the '
            f"student's data set loads {', '.join(map(repr, student.inputs))} ({student.config}), "
            f'and how {", ".join(map(repr, names))} could be loaded there is not known. Extend the '
            "student's data in a config of its own so that both are in each batch, and give that."
        )
    dataset['pipeline'] = [*copy.deepcopy(added), *dataset['pipeline']]
    packing = _packing(dataset['pipeline'])
    packing['keys'] = [*names, *packing['keys']]
    theirs = _packing(source['pipeline']).get('meta_keys')
    if theirs and packing.get('meta_keys'):
        packing['meta_keys'] = tuple(dict.fromkeys([*packing['meta_keys'], *theirs]))
    for field, value in (source.get('data_prefix') or {}).items():
        dataset.setdefault('data_prefix', {}).setdefault(field, value)
    if dataset.get('modality') is not None:
        dataset['modality'] = dict(
            dataset['modality'],
            **{_MODALITIES[name]: True for name in names},
        )


def read_features_only(train_loader: dict[str, Any], val_loader: dict[str, Any]) -> None:
    """Have training data read without augmentation and annotations, as validation does.

    Args:
        train_loader: Data loader config; changed in place.
        val_loader: Data loader config whose pipeline is taken.
    """
    train, val = find_dataset(train_loader), find_dataset(val_loader)
    if train is None or val is None:
        return
    train['pipeline'] = copy.deepcopy(val['pipeline'])
    if 'modality' in val:
        train['modality'] = copy.deepcopy(val['modality'])
    kind = _class_of(train['type'], DATASETS)
    if any(
        'filter_empty_gt' in inspect.signature(base.__init__).parameters for base in kind.__mro__
    ):
        # Without annotations every frame looks empty.
        train['filter_empty_gt'] = False


def _class_of(kind: str | type, registry: Registry) -> type:
    """What a config's ``type`` stands for, within the default scope."""
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(None) as scoped:
        return scoped.get(kind)


def _loaders_of(name: str, pipeline: list[dict]) -> list[dict]:
    """The transforms at the top of a pipeline that load an input."""
    word = _LOADERS.get(name)
    if word is None:
        return []
    return [
        transform
        for transform in pipeline
        if str(transform['type']).rsplit('.', 1)[-1].startswith('Load')
        and word in transform['type']
    ]


def _packing(pipeline: list[dict]) -> dict:
    """The transform that packs the inputs; an empty dict if there is none."""
    return next((step for step in reversed(pipeline) if step.get('keys') is not None), {})


def _dicts_with(tree: Any, key: str) -> Iterator[dict]:
    if isinstance(tree, dict):
        if key in tree:
            yield tree
        for value in tree.values():
            yield from _dicts_with(value, key)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from _dicts_with(value, key)
