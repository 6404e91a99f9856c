"""The thirteen tables of a nuScenes version, and the tokens that link them."""

from __future__ import annotations

import hashlib
from typing import Any, Dict, List

import numpy as np
from scipy.spatial.transform import Rotation

CATEGORY_OF_CLASS = {
    'car': 'vehicle.car',
    'truck': 'vehicle.truck',
    'construction_vehicle': 'vehicle.construction',
    'bus': 'vehicle.bus.rigid',
    'trailer': 'vehicle.trailer',
    'barrier': 'movable_object.barrier',
    'motorcycle': 'vehicle.motorcycle',
    'bicycle': 'vehicle.bicycle',
    'pedestrian': 'human.pedestrian.adult',
    'traffic_cone': 'movable_object.trafficcone',
}
ATTRIBUTES = (
    'vehicle.moving',
    'vehicle.stopped',
    'vehicle.parked',
    'cycle.with_rider',
    'cycle.without_rider',
    'pedestrian.sitting_lying_down',
    'pedestrian.standing',
    'pedestrian.moving',
)
VISIBILITY_LEVELS = (('1', 'v0-40'), ('2', 'v40-60'), ('3', 'v60-80'), ('4', 'v80-100'))
TABLE_NAMES = (
    'category',
    'attribute',
    'visibility',
    'instance',
    'sensor',
    'calibrated_sensor',
    'ego_pose',
    'log',
    'scene',
    'sample',
    'sample_data',
    'sample_annotation',
    'map',
)
Record = Dict[str, Any]
Tables = Dict[str, List[Record]]


def make_token(*parts: Any) -> str:
    """Return the token of a record.

    Args:
        *parts: Values that identify the record.

    Returns:
        32 hexadecimal digits.
    """
    return hashlib.md5('/'.join(str(part) for part in parts).encode()).hexdigest()


def yaw_to_quaternion(yaw: float) -> list[float]:
    """Convert a rotation about z to a quaternion.

    Args:
        yaw: Angle in radians.

    Returns:
        (w, x, y, z).
    """
    return [float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))]


def matrix_to_quaternion(rotation: np.ndarray) -> list[float]:
    """Convert a rotation matrix to a quaternion.

    Args:
        rotation: (3, 3).

    Returns:
        (w, x, y, z).
    """
    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return [float(w), float(x), float(y), float(z)]


def visibility_token(visible: float, covered: float) -> str:
    """Return the visibility level of an object.

    Args:
        visible: Number of its visible pixels in all cameras.
        covered: Number of its pixels in all cameras without occlusion.

    Returns:
        '1' to '4' for up to 40, 60, 80 and 100 percent; '1' for an object in no camera.
    """
    share = visible / covered if covered > 0 else 0.0
    return str(1 + sum(share > limit for limit in (0.4, 0.6, 0.8)))


def empty_tables() -> Tables:
    """Return all tables, without records."""
    return {name: [] for name in TABLE_NAMES}


def constant_tables(channels: dict[str, str]) -> Tables:
    """Return the tables that do not depend on the recording.

    Args:
        channels: Modality of each sensor channel.

    Returns:
        Category, attribute, visibility and sensor records; the other tables are empty.
    """
    tables = empty_tables()
    for index, (class_name, category) in enumerate(CATEGORY_OF_CLASS.items()):
        tables['category'].append(
            {
                'token': make_token('category', category),
                'name': category,
                'description': f'Simulated objects of the detection class {class_name}.',
                'index': index,
            }
        )
    for name in ATTRIBUTES:
        tables['attribute'].append(
            {'token': make_token('attribute', name), 'name': name, 'description': name}
        )
    for token, level in VISIBILITY_LEVELS:
        low, high = level[1:].split('-')
        tables['visibility'].append(
            {
                'token': token,
                'level': level,
                'description': f'{low} to {high} percent of the object seen in the six cameras.',
            }
        )
    for channel, modality in channels.items():
        tables['sensor'].append(
            {'token': make_token('sensor', channel), 'channel': channel, 'modality': modality}
        )
    return tables


def link_chain(records: list[Record]) -> None:
    """Set `prev` and `next` of consecutive records.

    Args:
        records: Records in order of time; changed in place.
    """
    for index, record in enumerate(records):
        record['prev'] = records[index - 1]['token'] if index > 0 else ''
        record['next'] = records[index + 1]['token'] if index + 1 < len(records) else ''
