"""A training's work folder: one training at a time, and none begun over another's checkpoints."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, TextIO

from mmengine.config import Config
from mmengine.logging import print_log

from ..errors import CibaError, launched_rank
from ..files import write_error
from .checkpoint_search import checkpoint_folder, find_checkpoints

try:
    import fcntl
except ImportError:  # not a Unix system
    fcntl = None

LOCK_FILE = '.training'
_HELD_BY_ANOTHER = (errno.EACCES, errno.EAGAIN)
_PARTIAL = re.compile(r'\.(epoch|iter|best)_.*\.pth\.\d+\.partial')


@contextmanager
def lock_work_dir(work_dir: str | os.PathLike) -> Iterator[None]:
    """Keep every other training out of a work folder for as long as the context lasts.

    The first process of a training locks a file in it that says whose it is. The system gives the
    lock back however the process ends, and no process it has started holds it. Partial checkpoints
    that a killed training has left are removed.

    Args:
        work_dir: The folder; made if it is not there.

    Raises:
        CibaError: Another training is at work there, or the folder cannot be written.
    """
    if launched_rank() != 0:
        yield
        return
    folder = Path(work_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK_FILE).open('a+', encoding='utf-8')
    except OSError as error:
        raise write_error(folder, error) from error
    with file:
        if _lock(file, folder):
            for partial in folder.iterdir():
                if _PARTIAL.fullmatch(partial.name):
                    partial.unlink()
        yield


def _lock(file: TextIO, folder: Path) -> bool:
    """Lock the open file and write into it whose it is; whether the file system can do that."""
    try:
        if fcntl is None:
            raise OSError(errno.ENOTSUP, 'no such call on this system')
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD_BY_ANOTHER:
            file.seek(0)
            raise CibaError(
                f'{folder} is in use by another training{_describe(file.read())}. Wait for it, '
                'end it, or choose another folder with --work-dir.'
            ) from error
        print_log(
            f'{folder} cannot be locked ({error.strerror}): see to it that no other training '
            'uses it at the same time.'
        )
        return False
    holder = {'host': socket.gethostname(), 'pid': os.getpid(), 'start': time.strftime('%F %T')}
    file.truncate(0)
    file.write(json.dumps(holder) + '\n')
    file.flush()
    return True


def _describe(note: str) -> str:
    try:
        holder = json.loads(note)
        return f': process {holder["pid"]} on {holder["host"]}, started {holder["start"]}'
    except (ValueError, KeyError, TypeError):
        return ''


def require_no_checkpoints(cfg: Config) -> None:
    """Refuse to begin a training where another has left its checkpoints.

    Args:
        cfg: The config of a training that goes on from nothing.

    Raises:
        CibaError: The folder holds checkpoints, which this training would replace.
    """
    folder = checkpoint_folder(cfg)
    resumable = [checkpoint.path.name for checkpoint in find_checkpoints(cfg)]
    best = sorted(path.name for path in folder.glob('best_*.pth'))
    if (resumable or best) and launched_rank() == 0:
        resume = 'Go on from the newest with --resume, choose' if resumable else 'Choose'
        raise CibaError(
            f'{folder} holds checkpoints of an earlier training ({_some(resumable or best)}), and '
            f'this one would begin anew and replace them. {resume} another folder with --work-dir, '
            'or begin anew here with --start-over, which moves them into a folder of their own.'
        )


def move_old_checkpoints(cfg: Config) -> None:
    """Move the checkpoints in a work folder into a new folder within it.

    Args:
        cfg: The config.

    Raises:
        CibaError: They cannot be moved.
    """
    folder = checkpoint_folder(cfg)
    found = [checkpoint.path for checkpoint in find_checkpoints(cfg)]
    found += [*folder.glob('best_*.pth'), *Path(cfg.work_dir).glob('last_checkpoint')]
    if not found or launched_rank() != 0:
        return
    aside = folder / f'replaced_{time.strftime("%Y%m%d_%H%M%S")}'
    try:
        aside.mkdir()
        for path in found:
            path.rename(aside / path.name)
    except OSError as error:
        raise write_error(aside, error) from error
    print_log(f'The checkpoints of the earlier training are in {aside} now.')


def _some(names: list[str]) -> str:
    return ', '.join(names if len(names) < 4 else [names[0], '...', names[-1]])
