"""Lock the work folder of a training, and protect the checkpoints in it."""

from __future__ import annotations

import errno
import fcntl
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

LOCK_FILE = '.training'
_HELD_BY_ANOTHER = (errno.EACCES, errno.EAGAIN)
_PARTIAL = re.compile(r'\.(epoch|iter|best)_.*\.pth\.\d+\.partial')


@contextmanager
def lock_work_dir(work_dir: str | os.PathLike) -> Iterator[None]:
    """Lock a work folder, so that no other training uses it within the context.

    The first process of a training locks a file that describes its owner. The system releases the
    lock when the process ends, for any reason. Partial checkpoints of a killed training are
    removed.

    Args:
        work_dir: The folder; created if it does not exist.

    Yields:
        None.

    Raises:
        CibaError: Another training uses the folder, or it cannot be written.
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
    """Lock the open file and write its owner; return whether the file system supports locks."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD_BY_ANOTHER:
            file.seek(0)
            raise CibaError(
                f'{folder} is in use by another training{_describe(file.read())}. Wait for it, '
                'end it, or choose another folder with --work-dir.'
            ) from error
        print_log(
            f'{folder} cannot be locked ({error.strerror}): make sure that no other training '
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
    """Check that a work folder has no checkpoints of another training.

    Args:
        cfg: The config of a new training.

    Raises:
        CibaError: The folder has checkpoints, which this training would replace.
    """
    folder = checkpoint_folder(cfg)
    resumable = [checkpoint.path.name for checkpoint in find_checkpoints(cfg)]
    best = sorted(path.name for path in folder.glob('best_*.pth'))
    if (resumable or best) and launched_rank() == 0:
        resume = 'Resume from the newest with --resume, choose' if resumable else 'Choose'
        raise CibaError(
            f'{folder} holds checkpoints of an earlier training ({_some(resumable or best)}), '
            f'which this one would replace. {resume} another folder with --work-dir, or use '
            '--start-over, which moves them into a separate folder.'
        )


def move_old_checkpoints(cfg: Config) -> None:
    """Move the checkpoints in a work folder into a new subfolder.

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
