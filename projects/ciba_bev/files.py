"""Atomic writes: a file is written completely or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator

from .errors import CibaError, ConfigError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# How `torch.save` and h5py say that they could not write, in a RuntimeError.
_LIBRARY_WRITER = re.compile(
    r'inline_container|PytorchStreamWriter|write\(\): fd|Parent directory|unable to extend file'
)


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that replaces a file once it is written.

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
        # A folder that cannot be written to must not hide the first error behind a second one.
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and _is_about(error, partial):
            raise unwritable(path, error) from error
        if isinstance(error, RuntimeError) and _LIBRARY_WRITER.search(str(error)):
            raise unwritable(path, 'not all of it could be written') from error
        raise


def _is_about(error: OSError, partial: Path) -> bool:
    """Return whether an error concerns the file being written, not one being read meanwhile."""
    return error.filename is None or Path(error.filename) in (partial, *partial.parents)


@contextmanager
def full_disk_explained(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what a full or read-only disk raises within the context into one sentence.

    Args:
        folder: Where files are written whose paths the error does not name.

    Raises:
        CibaError: A disk is full or read-only; names the path.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        location = error.filename or f'{folder} (or {tempfile.gettempdir()}, for temporary files)'
        raise unwritable(location, error) from error


def write_file(path: str | os.PathLike[str], content: str | bytes) -> None:
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


@contextmanager
def scratch_folder(parent: str | os.PathLike[str], prefix: str) -> Iterator[Path]:
    """Make a folder for intermediate files, and remove it at the end.

    Folders left by killed processes are removed too; a lock distinguishes them from those in use.

    Args:
        parent: Where it is made, on the disk that the results go to.
        prefix: Start of its name; no other file there may have it.

    Yields:
        The folder.

    Raises:
        CibaError: A file in it cannot be written; names ``parent``.
    """
    for abandoned in Path(parent).glob(f'{prefix}*'):
        with suppress(OSError), _locked(abandoned):
            shutil.rmtree(abandoned)
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with _locked(folder):
            yield folder
    except OSError as error:
        where = Path(error.filename or parent)
        if where == Path(parent) or folder in (where, *where.parents):
            raise unwritable(parent, error) from error
        raise
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, which the system releases when the process is killed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def remove_partials(folder: str | os.PathLike[str]) -> None:
    """Remove partial files that killed processes left behind.

    Args:
        folder: A folder that no other process is writing to.
    """
    for partial in Path(folder).glob('.*.partial'):
        partial.unlink(missing_ok=True)


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder and its missing parents.

    Args:
        path: The folder.

    Raises:
        CibaError: It cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def require_writable(path: str | os.PathLike[str]) -> None:
    """Raise an error if a file cannot be written, before the work that produces it.

    Args:
        path: The file. Nothing is made or changed.

    Raises:
        CibaError: It cannot be written.
    """
    path = Path(path).absolute()
    if path.is_dir():
        raise unwritable(path, os.strerror(errno.EISDIR))
    try:
        with tempfile.TemporaryFile(dir=next(folder for folder in path.parents if folder.exists())):
            pass
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: str | os.PathLike[str], cause: OSError | str) -> CibaError:
    """Return the error that names a file that cannot be written and the cause.

    Args:
        path: The file or folder.
        cause: What the operating system said.

    Returns:
        The error, to be raised.
    """
    if isinstance(cause, OSError):
        text = cause.strerror or str(cause)
        # h5py wraps the system's message in a long one.
        cause = os.strerror(cause.errno) if '\n' in text and cause.errno else text
    for part in (Path(path), *Path(path).parents):
        if part.is_symlink() and not part.exists():
            cause = f'{part} is a link to {os.readlink(part)}, which does not exist'
    return CibaError(
        f'{path}: cannot be written ({cause}). Free some space or choose another folder.'
    )


def require_not_read(path: str | os.PathLike[str], *sources: str | os.PathLike[str] | None) -> None:
    """Raise an error if a file to be written is also read, so that no tool replaces its own input.

    Args:
        path: The file to write.
        *sources: Files that are read; None is ignored. Links and other spellings of a path are
            recognised.

    Raises:
        ConfigError: ``path`` is one of them.
    """
    target = Path(path)
    for source in sources:
        if source is None:
            continue
        try:
            same = target.samefile(source)
        except OSError:
            # One of them does not exist.
            same = False
        if same:
            raise ConfigError(
                f'{target}: this file is read, and writing would replace it. Choose another name '
                'for the output.'
            )
