"""Read the tables of nuScenes, and explain failures of the devkit."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Iterator

from .data_checks import DataError

TABLES = (
    'attribute',
    'calibrated_sensor',
    'category',
    'ego_pose',
    'instance',
    'log',
    'map',
    'sample',
    'sample_annotation',
    'sample_data',
    'scene',
    'sensor',
    'visibility',
)
CAMERAS = (
    'CAM_FRONT',
    'CAM_FRONT_RIGHT',
    'CAM_FRONT_LEFT',
    'CAM_BACK',
    'CAM_BACK_LEFT',
    'CAM_BACK_RIGHT',
)
CHANNELS = ('LIDAR_TOP', *CAMERAS)
LAYOUT = 'docs/data.md has the layout'


def check_tables(root: Path, version: str) -> None:
    """Check that all tables exist.

    Args:
        root: The nuScenes root.
        version: Name of the folder of tables.

    Raises:
        DataError: A table does not exist.
    """
    missing = [name for name in TABLES if not (root / version / f'{name}.json').is_file()]
    if missing:
        files = ', '.join(f'{name}.json' for name in missing)
        raise DataError(
            f'{root / version}: the tables {files} are missing. --root-path must be the folder '
            f'with samples, sweeps and {version}; the tables are in the metadata archive of '
            f'nuScenes ({LAYOUT}).'
        )


def read_table(root: Path, version: str, name: str) -> list[dict]:
    """Read one table.

    Args:
        root: The nuScenes root.
        version: Name of the folder of tables.
        name: The table's name, such as ``scene``.

    Returns:
        Its entries.

    Raises:
        DataError: It is damaged or unreadable.
    """
    path = root / version / f'{name}.json'
    try:
        with open(path, encoding='utf-8') as stream:
            entries = json.load(stream)
    except OSError as error:
        raise DataError(f'{path}: the table cannot be read: {error.strerror}.') from None
    except ValueError as error:
        raise DataError(
            f'{path}: the table is truncated or damaged ({error}). Unpack the metadata archive of '
            f'nuScenes again ({LAYOUT}).'
        ) from None
    if not isinstance(entries, list):
        raise DataError(
            f'{path}: the table is not a list of entries. Unpack the metadata archive of nuScenes '
            f'again ({LAYOUT}).'
        )
    return entries


def check_maps(root: Path, maps: list[dict]) -> None:
    """Check that the map images exist, without which the devkit does not open a data set.

    Args:
        root: The nuScenes root.
        maps: Entries of the table ``map``.

    Raises:
        DataError: An image does not exist.
    """
    for entry in maps:
        path = root / entry.get('filename', '')
        if not path.is_file():
            raise DataError(
                f'{path}: the map is missing. The devkit does not open a data set without its '
                'maps. They are in the metadata archive of nuScenes (v1.0-trainval_meta.tgz or '
                'v1.0-test_meta.tgz; v1.0-mini.tgz has its own), not in the map expansion: unpack '
                f'it again ({LAYOUT}).'
            )


@contextlib.contextmanager
def explained_failures(root: Path, version: str) -> Iterator[None]:
    """Turn exceptions of the devkit or of mmdet3d's converter into a :class:`DataError`.

    Neither of them checks its input, so that the cause of a failure is searched in the tables.

    Args:
        root: The nuScenes root.
        version: Name of the folder of tables.

    Yields:
        None.

    Raises:
        DataError: The code in the context fails.
    """
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(
            f'{root}: a file that the {version} tables name is missing: {error}. Unpack the '
            f'nuScenes archive that contains it ({LAYOUT}).'
        ) from None
    except Exception as error:
        _raise_cause(root, version)
        raise DataError(
            f"{root}: the {version} tables cannot be converted: mmdet3d's converter or the "
            f'nuScenes devkit stopped with {type(error).__name__}: {error}. The tables contradict '
            f'each other or lack a field: unpack the metadata archive again ({LAYOUT}).'
        ) from error


def _raise_cause(root: Path, version: str) -> None:
    """Search the cause of a failure; raise a :class:`DataError` if it is found."""
    tables = {name: read_table(root, version, name) for name in TABLES}
    check_maps(root, tables['map'])
    # For a table without one of these fields, the devkit's error is sufficient.
    with contextlib.suppress(KeyError):
        _check_channels(root / version / 'sample_data.json', tables)


def _check_channels(table: Path, tables: dict[str, list[dict]]) -> None:
    """Check that samples have the sensors that the converter needs."""
    channel_of_sensor = {sensor['token']: sensor['channel'] for sensor in tables['sensor']}
    channel_of = {
        entry['token']: channel_of_sensor.get(entry['sensor_token'])
        for entry in tables['calibrated_sensor']
    }
    found: dict[str, set] = {sample['token']: set() for sample in tables['sample']}
    for entry in tables['sample_data']:
        if entry['is_key_frame'] and entry['sample_token'] in found:
            found[entry['sample_token']].add(channel_of.get(entry['calibrated_sensor_token']))
    lacking = {
        token: [c for c in CHANNELS if c not in channels] for token, channels in found.items()
    }
    lacking = {token: channels for token, channels in lacking.items() if channels}
    if lacking:
        token, channels = next(iter(lacking.items()))
        raise DataError(
            f'{table}: {len(lacking)} of {len(found)} samples have no {", ".join(channels)} (the '
            f"first is {token}). mmdet3d's converter needs a LiDAR and six cameras, named as in "
            'nuScenes. Write info files of other sensors by hand (docs/nuscenes.md, "Other '
            'sensors"); with num_views of the loading and num_cams of the model set, they train.'
        )
