"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from .errors import CibaError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# How `torch.save` says that it could not write; of the cause it only knows this.
_TORCH_WRITER = re.compile(r'inline_container|PytorchStreamWriter|write\(\): fd|Parent directory')


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
        if isinstance(error, RuntimeError) and _TORCH_WRITER.search(str(error)):
            raise unwritable(path, 'torch could not write all of it') from error
        raise


@contextmanager
def full_disk_explained(folder: str | os.PathLike) -> Iterator[None]:
    """Turn what a full or read-only disk raises within the context into one sentence.

    Args:
        folder: Where files are written whose paths the error does not tell.

    Raises:
        CibaError: A disk is full or read-only; names the path.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        place = error.filename or f'{folder} (or {tempfile.gettempdir()}, for temporary files)'
        raise unwritable(place, error) from error


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


def unwritable(path: str | os.PathLike, cause: OSError | str) -> CibaError:
    """Return the error that names a file that cannot be written and the cause.

    Args:
        path: The file or folder.
        cause: What the operating system said.
    """
    if isinstance(cause, OSError):
        cause = cause.strerror or str(cause)
    for part in (Path(path), *Path(path).parents):
        if part.is_symlink() and not part.exists():
            cause = f'{part} is a link to {os.readlink(part)}, which does not exist'
    return CibaError(
        f'{path}: cannot be written ({cause}). Free some space or choose another folder.'
    )
