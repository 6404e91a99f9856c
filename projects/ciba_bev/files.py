"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from .errors import CibaError


@contextmanager
def written_whole(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path that takes the place of a file once it is written.

    The temporary file lies in the same folder, is named after this process, and is removed if
    anything goes wrong, so that a reader sees the old file or the new one and nothing else.

    Args:
        path: The file to write. Missing parent folders are created.

    Yields:
        The path to write to instead.

    Raises:
        CibaError: The file cannot be written; names the path and the cause.
    """
    path = Path(path)
    partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise unwritable(path, error) from error
        raise


def write_file(path: str | os.PathLike, content: str | bytes) -> None:
    """Write a file that is never seen half written.

    Args:
        path: The file. Missing parent folders are created.
        content: Its content; text is encoded as UTF-8.

    Raises:
        CibaError: The file cannot be written.
    """
    data = content.encode('utf-8') if isinstance(content, str) else content
    with written_whole(path) as partial:
        partial.write_bytes(data)


def unwritable(path: str | os.PathLike, error: OSError) -> CibaError:
    """Return the error that names a file that cannot be written and the cause.

    Args:
        path: The file.
        error: What the operating system said.
    """
    return CibaError(
        f'{path}: cannot be written ({error.strerror or error}). Free some space or choose '
        'another folder.'
    )
