"""Read and write mmdet3d's info files."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

from mmengine.fileio import get

from ...checkpoints.restricted_pickle import load_plain
from ...files import atomic_write
from .data_checks import DataError, create_data_command


class DamagedInfoFileError(DataError):
    """An info file that cannot be unpickled."""


def load_info_file(path: str | Path, data_root: str | Path | None = None) -> dict:
    """Read an info file in the format of mmdet3d 1.1 and later.

    Unpickling can run code, so that only containers, strings, numbers and arrays are read.

    Args:
        path: The pickle file, or its URL in a storage that mmengine supports.
        data_root: The nuScenes root, for error messages; None for the file's folder.

    Returns:
        A dictionary with ``metainfo`` (class names, version) and ``data_list`` (a dictionary per
        sample).

    Raises:
        DataError: The file does not exist, is unreadable, of another format, or has other objects.
    """
    command = create_data_command(path, 'v1.0-trainval', data_root=data_root)
    remedy = f'Write it: {command} (or v1.0-mini).'
    try:
        content = _read(path)
    except FileNotFoundError:
        raise DataError(f'{path}: the info file does not exist. {remedy}') from None
    except pickle.UnpicklingError as error:
        if not str(error).startswith('it names '):
            raise _damaged(path, error, remedy) from None
        raise DataError(
            f'{path}: the info file is refused: {error}, and reading that could run code. Info '
            f'files contain only lists, numbers and arrays. {remedy}'
        ) from None
    except OSError as error:
        raise DataError(f'{path}: the info file cannot be read: {error.strerror}.') from None
    except Exception as error:
        # Damaged pickles can raise any exception.
        raise _damaged(path, error, remedy) from None
    if not isinstance(content, dict) or not {'metainfo', 'data_list'} <= content.keys():
        raise DataError(
            f'{path}: the info file lacks metainfo or data_list, so it is not of the format of '
            f'mmdet3d 1.1 and later. {remedy}'
        )
    return content


def _read(path: str | Path) -> Any:
    if os.path.exists(path):
        with open(path, 'rb') as stream:
            return load_plain(stream)
    return load_plain(io.BytesIO(get(str(path))))


def _damaged(path: str | Path, error: Exception, remedy: str) -> DamagedInfoFileError:
    return DamagedInfoFileError(
        f'{path}: the info file is truncated or not a pickle file ({error}). {remedy}'
    )


def save_info_file(content: dict, path: str | Path) -> None:
    """Write an info file atomically.

    Args:
        content: ``metainfo`` and ``data_list``.
        path: The pickle file; missing folders are created.

    Raises:
        CibaError: The file cannot be written.
    """
    with atomic_write(path) as partial, open(partial, 'wb') as stream:
        # Every supported version of Python can read protocol 4.
        pickle.dump(content, stream, protocol=4)
