"""Reading and writing mmdet3d's info files."""

from __future__ import annotations

import pickle
from pathlib import Path

import mmengine

from ...files import written_whole
from .data_checks import DataError, create_data_command


def load_info_file(path: str | Path) -> dict:
    """Reads an info file in the format mmdet3d has used since version 1.1.

    Args:
        path: The pickle file.

    Returns:
        A dictionary with ``metainfo`` (class names, version) and ``data_list`` (a dictionary per
        sample).

    Raises:
        DataError: If the file is missing, unreadable or of another format.
    """
    remedy = f'Write it: {create_data_command(path, "v1.0-trainval")} (or v1.0-mini).'
    try:
        content = mmengine.load(str(path))
    except FileNotFoundError:
        raise DataError(f'{path}: the info file does not exist. {remedy}') from None
    except (EOFError, pickle.UnpicklingError) as error:
        raise DataError(
            f'{path}: the info file is truncated or no pickle file ({error}). {remedy}'
        ) from None
    if not isinstance(content, dict) or not {'metainfo', 'data_list'} <= content.keys():
        raise DataError(
            f'{path}: the info file lacks metainfo or data_list, so it is none of the format '
            f'mmdet3d 1.1 and later use. {remedy}'
        )
    return content


def save_info_file(content: dict, path: str | Path) -> None:
    """Write an info file so that at every moment the old or the new one is there, whole.

    Args:
        content: ``metainfo`` and ``data_list``.
        path: The pickle file; its folder is made where it is missing.

    Raises:
        CibaError: The file cannot be written.
    """
    with written_whole(path) as partial, open(partial, 'wb') as stream:
        # Protocol 4 is what every Python this project supports can read.
        pickle.dump(content, stream, protocol=4)
