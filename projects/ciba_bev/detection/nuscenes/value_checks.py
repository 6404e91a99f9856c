"""Find impossible values in info files."""

from __future__ import annotations

from collections import Counter
from typing import Any, Iterator, Mapping, Sequence

import numpy as np

from .data_checks import DataProblem, NeededFields

REMEDY = 'Correct it in the source of the info file, or remove the sample.'


def value_problems(
    infos: Sequence[dict],
    needed: NeededFields,
    info_file: str,
    categories: Mapping[str, int] | None = None,
) -> list[DataProblem]:
    """Find impossible values in infos.

    These are NaN and infinity in poses, calibration, CAN bus and boxes (velocities may be NaN, as
    in nuScenes if they are unknown), sizes and focal lengths that are not positive, unknown labels,
    and duplicate tokens.

    Args:
        infos: Entries of an info file's ``data_list`` with all required fields.
        needed: The parts that are read.
        info_file: The info file, for the message.
        categories: Class name to label, from the info file; None to accept any label.

    Returns:
        One problem per sample and field, in order.
    """
    labels = None if categories is None else {-1, *categories.values()}
    problems = [
        DataProblem(info_file, str(info['token']), field, finding, REMEDY)
        for info in infos
        for field, finding in _findings(info, needed, labels)
    ]
    counts = Counter(info['token'] for info in infos)
    for token, count in counts.items():
        if count > 1:
            finding = f'the sample occurs {count} times'
            problems.append(DataProblem(info_file, token, 'token', finding, REMEDY))
    return problems


def _findings(
    info: dict, needed: NeededFields, labels: set[int] | None
) -> Iterator[tuple[str, str]]:
    for field, value in _calibration(info, needed):
        if not _is_finite(value):
            yield field, 'it contains NaN or infinity'
        elif field.endswith('cam2img') and not (value[0][0] > 0 and value[1][1] > 0):
            yield field, f'its focal lengths are {value[0][0]:g} and {value[1][1]:g}'
    if not (needed.instance_fields and info['instances']):
        return
    instances = info['instances']
    labels_here = [instance['bbox_label_3d'] for instance in instances]
    if labels is not None and not labels.issuperset(labels_here):
        for number, label in enumerate(labels_here):
            if label not in labels:
                yield f'instances[{number}].bbox_label_3d', f'no category has the label {label}'
    boxes = np.array([instance['bbox_3d'] for instance in instances], np.float64)
    # Objects without a category are not loaded.
    used = np.array(labels_here) != -1
    for number in np.flatnonzero(used & ~np.isfinite(boxes).all(1)):
        yield f'instances[{number}].bbox_3d', 'it contains NaN or infinity'
    for number in np.flatnonzero(used & (boxes[:, 3:6] <= 0).any(1)):
        yield f'instances[{number}].bbox_3d', f'its size is {boxes[number, 3:6].tolist()} m'
    if 'velocity' in needed.instance_fields:
        velocities = np.array([instance['velocity'] for instance in instances], np.float64)
        for number in np.flatnonzero(used & np.isinf(velocities).any(1)):
            yield f'instances[{number}].velocity', 'it is infinite'


def _calibration(info: dict, needed: NeededFields) -> Iterator[tuple[str, Any]]:
    """Yield field and value of the poses and the calibration of an info."""
    yield 'ego2global', info['ego2global']
    yield 'lidar_points.lidar2ego', info['lidar_points']['lidar2ego']
    if needed.lidar:
        yield 'timestamp', info['timestamp']
    if needed.cameras:
        for camera, image in info['images'].items():
            for key in ('cam2img', 'lidar2cam'):
                yield f'images.{camera}.{key}', image[key]
    if needed.sweeps:
        for number, sweep in enumerate(info.get('lidar_sweeps', ())):
            field = f'lidar_sweeps[{number}]'
            yield f'{field}.timestamp', sweep['timestamp']
            yield f'{field}.lidar_points.lidar2sensor', sweep['lidar_points']['lidar2sensor']
    if needed.temporal:
        yield 'can_bus', info['can_bus']


def _is_finite(value: Any) -> bool:
    return bool(np.isfinite(np.asarray(value, np.float64)).all())
