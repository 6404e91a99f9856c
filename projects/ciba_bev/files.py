"""Write files atomically: completely or not at all."""

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

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# Messages of the RuntimeError that `torch.save` and h5py raise if they cannot write.
_LIBRARY_WRITER = re.compile(
    r'inline_container|PytorchStreamWriter|write\(\): fd|Parent directory|unable to extend file'
)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path, which replaces a file at the end of the context.

    The temporary file is in the same folder and is removed if an exception is raised, so that a
    reader sees either the old or the new file.

    Args:
        path: The file to write. Missing parent folders are created.

    Yields:
        The temporary path.

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
        # Do not replace the original error by that of an unwritable folder.
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and _is_about(error, partial):
            raise write_error(path, error) from error
        if isinstance(error, RuntimeError) and _LIBRARY_WRITER.search(str(error)):
            raise write_error(path, 'not all of it could be written') from error
        raise


def _is_about(error: OSError, partial: Path) -> bool:
    """Return whether an error is about the file being written, not another one."""
    return error.filename is None or Path(error.filename) in (partial, *partial.parents)


@contextmanager
def explain_full_disk(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the errors of a full or read-only disk within the context into a :class:`CibaError`.

    Args:
        folder: Folder to name if the error does not name a path.

    Yields:
        None.

    Raises:
        CibaError: A disk is full or read-only; names the path.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        location = error.filename or f'{folder} (or {tempfile.gettempdir()}, for temporary files)'
        raise write_error(location, error) from error


def write_file(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file atomically.

    Args:
        path: The file. Missing parent folders are created.
        content: Its content; text is encoded as UTF-8.

    Raises:
        CibaError: The file cannot be written.
    """
    data = content.encode('utf-8') if isinstance(content, str) else content
    with atomic_write(path) as partial:
        partial.write_bytes(data)


@contextmanager
def scratch_folder(parent: str | os.PathLike[str], prefix: str) -> Iterator[Path]:
    """Create a folder for intermediate files, and remove it at the end of the context.

    Folders of killed processes are removed, too; a lock distinguishes them from those in use.

    Args:
        parent: Its parent folder, on the same disk as the results.
        prefix: Prefix of its name; no other files in the parent folder may have it.

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
            raise write_error(parent, error) from error
        raise
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder; the system releases the lock if the process is killed."""
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
    """Create a folder and its missing parents.

    Args:
        path: The folder.

    Raises:
        CibaError: It cannot be created.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def require_writable(path: str | os.PathLike[str]) -> None:
    """Check that a file can be written, before its content is computed.

    Args:
        path: The file. It is neither created nor changed.

    Raises:
        CibaError: It cannot be written.
    """
    path = Path(path).absolute()
    if path.is_dir():
        raise write_error(path, os.strerror(errno.EISDIR))
    try:
        with tempfile.TemporaryFile(dir=next(folder for folder in path.parents if folder.exists())):
            pass
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: str | os.PathLike[str], cause: OSError | str) -> CibaError:
    """Return the error for a file that cannot be written.

    Args:
        path: The file or folder.
        cause: The error of the operating system, or its message.

    Returns:
        The error, which names the path and the cause.
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
    """Check that a file to be written is not an input file.

    Args:
        path: The file to write.
        *sources: Files that are read; None is ignored. Links and different spellings of a path are
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
