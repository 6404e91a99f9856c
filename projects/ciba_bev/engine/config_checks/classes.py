"""Check that model and data of a config have the same classes and number of cameras."""

from __future__ import annotations

import difflib
from typing import Any, Sequence

from mmengine.registry import DATASETS

from ...errors import ConfigError
from .nested import dicts_with, registered_class

# Heads with the classes of the data set; others may have different classes.
_DETECTION_HEADS = ('bbox_head', 'pts_bbox_head')


def check_class_names(dataset: dict[str, Any], field: str, config_name: str) -> None:
    """Check the class names of a dataset config against those of its type.

    Args:
        dataset: The dataset config.
        field: Its field in the config.
        config_name: The config file, for messages.

    Raises:
        ConfigError: A name is unknown, or the list is empty.
    """
    dataset_type = registered_class(DATASETS, dataset.get('type'))
    known = getattr(dataset_type, 'METAINFO', {}).get('classes')
    wanted = (dataset.get('metainfo') or {}).get('classes')
    if wanted is not None and len(wanted) == 0:
        raise ConfigError(
            f'{config_name}: {field}.metainfo.classes is empty. Name at least one class.'
        )
    if not known or not wanted:
        return
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f' Did you mean {close[0]!r}?' if close else ''
            raise ConfigError(
                f'{config_name}: {field}.metainfo.classes has {name!r}, which is not a class of '
                f'{dataset_type.__name__}.{hint}\n'
                f'Its classes are {", ".join(known)}.'
            )


def check_class_counts(
    model: dict[str, Any], datasets: Sequence[tuple[str, dict[str, Any]]], config_name: str
) -> None:
    """Check that the detection heads have as many classes as the data sets.

    Args:
        model: The model config.
        datasets: Field name and dataset config, for every dataset in use.
        config_name: The config file, for messages.

    Raises:
        ConfigError: The numbers of a head and a data set, or of two data sets, differ.
    """
    counts = [found for name, part in datasets for found in _class_counts_of_data(part, name)]
    for field, head in dicts_with(model, 'type', 'model'):
        path = field.split('.')
        if path[-1] in _DETECTION_HEADS and 'roi_head' not in path:
            counts += _class_counts_of_head(head, field)
    for field, count in counts[1:]:
        if count != counts[0][1]:
            raise ConfigError(
                f'{config_name}: {field} has {count} classes, but {counts[0][0]} has '
                f'{counts[0][1]}.\nUse the same classes for all data sets, and their number for '
                'the head.'
            )


def _class_counts_of_data(dataset: dict[str, Any], field: str) -> list[tuple[str, int]]:
    classes = (dataset.get('metainfo') or {}).get('classes')
    return [(f'{field}.metainfo.classes', len(classes))] if classes else []


def _class_counts_of_head(head: dict[str, Any], field: str) -> list[tuple[str, int]]:
    if isinstance(head.get('num_classes'), int):
        return [(f'{field}.num_classes', head['num_classes'])]
    tasks = head.get('tasks')
    # CenterPoint's head has groups of classes.
    if tasks and all(isinstance(task, dict) and 'class_names' in task for task in tasks):
        return [(f'{field}.tasks', sum(len(task['class_names']) for task in tasks))]
    return []


def check_camera_counts(
    model: dict[str, Any], datasets: Sequence[tuple[str, dict[str, Any]]], config_name: str
) -> None:
    """Check that a model's parts and the image loaders expect the same number of cameras.

    Args:
        model: The model config.
        datasets: Field name and dataset config, for every dataset in use.
        config_name: The config file, for messages.

    Raises:
        ConfigError: Two of the numbers differ.
    """
    counts = [
        (f'{field}.num_cams', part['num_cams'])
        for field, part in dicts_with(model, 'num_cams', 'model')
    ]
    if not counts:
        return
    counts += [
        (f'{name}.num_views', part['num_views'])
        for field, dataset in datasets
        for name, part in dicts_with(dataset, 'num_views', field)
    ]
    for field, count in counts[1:]:
        if count != counts[0][1]:
            raise ConfigError(
                f'{config_name}: {field} is {count}, but {counts[0][0]} is {counts[0][1]}. Both '
                'count the cameras: make them equal.'
            )
