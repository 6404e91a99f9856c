"""Reading and writing mmdet3d's info files."""

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
    """An info file that nothing can be read from."""


def load_info_file(path: str | Path, data_root: str | Path | None = None) -> dict:
    """Read an info file in the format mmdet3d has used since version 1.1.

    Unpickling can run code, so nothing but containers, strings, numbers and arrays is read.

    Args:
        path: The pickle file, or its address in a storage that mmengine can read from.
        data_root: The nuScenes root, for the remedy in an error; None for the file's folder.

    Returns:
        A dictionary with ``metainfo`` (class names, version) and ``data_list`` (a dictionary per
        sample).

    Raises:
        DataError: If the file is missing, unreadable, of another format, or holds other things.
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
            f'files hold lists, numbers and arrays only. {remedy}'
        ) from None
    except OSError as error:
        raise DataError(f'{path}: the info file cannot be read: {error.strerror}.') from None
    except Exception as error:
        # Damaged bytes make the unpickler fail in any way there is.
        raise _damaged(path, error, remedy) from None
    if not isinstance(content, dict) or not {'metainfo', 'data_list'} <= content.keys():
        raise DataError(
            f'{path}: the info file lacks metainfo or data_list, so it is none of the format '
            f'mmdet3d 1.1 and later use. {remedy}'
        )
    return content


def _read(path: str | Path) -> Any:
    if os.path.exists(path):
        with open(path, 'rb') as stream:
            return load_plain(stream)
    return load_plain(io.BytesIO(get(str(path))))


def _damaged(path: str | Path, error: Exception, remedy: str) -> DamagedInfoFileError:
    return DamagedInfoFileError(
        f'{path}: the info file is truncated or no pickle file ({error}). {remedy}'
    )


def save_info_file(content: dict, path: str | Path) -> None:
    """Write an info file so that at every moment the old or the new one is there, whole.

    Args:
        content: ``metainfo`` and ``data_list``.
        path: The pickle file; its folder is made where it is missing.

    Raises:
        CibaError: The file cannot be written.
    """
    with atomic_write(path) as partial, open(partial, 'wb') as stream:
        # Protocol 4 is what every Python this project supports can read.
        pickle.dump(content, stream, protocol=4)
