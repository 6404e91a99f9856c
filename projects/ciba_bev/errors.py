"""Errors that the user can fix, and how the command-line tools show them."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from typing import Callable

TRACEBACK_VARIABLE = 'CIBA_TRACEBACK'
LAUNCHER_VARIABLE = 'CIBA_LAUNCHER'  # set by tools/launch.py for the processes it starts
_HEAD_START = 3.0  # seconds

# A data-loading process hands its error over as text: a preamble, a trace, then the message.
_FROM_WORKER = re.compile(
    r'Caught \w+ in .*?Original Traceback.*\n[\w.]+Error: (?P<message>.*)', re.S
)


class CibaError(RuntimeError):
    """An error that the user can fix. Command-line tools print its message without a trace."""


class ConfigError(CibaError, ValueError):
    """A wrong argument or config field.

    A :class:`CibaError` for command-line tools, and a ``ValueError`` for callers of the library.
    """


class SharedError(CibaError):
    """An error that every process of a run raises at once, so that one of them reports it."""


def message_of(error: BaseException) -> str:
    """Return an error's message without the trace that a data-loading process puts before it.

    Args:
        error: Any exception.

    Returns:
        The message, without trailing white space.
    """
    message = str(error)
    handed_over = _FROM_WORKER.match(message)
    return (handed_over.group('message') if handed_over else message).rstrip()


def report(error: CibaError, rank: int | None = None) -> None:
    """Print an error's message to the standard error stream.

    Args:
        error: The error.
        rank: The process that met it, if it is one of several and the others did not.
    """
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(f'[bold red]error{"" if rank is None else f" (process {rank})"}:[/] ', end='')
    console.print(message_of(error), markup=False)


def exit_with_message(command: Callable[[], None], show_traceback: bool = False) -> None:
    """Run a command; exit with status 1 and a short message if it raises a :class:`CibaError`.

    Args:
        command: What to run.
        show_traceback: Let the error through, with its trace, instead. The environment variable
            ``CIBA_TRACEBACK=1`` does the same.
    """
    try:
        command()
    except CibaError as error:
        if show_traceback or os.environ.get(TRACEBACK_VARIABLE):
            raise
        shared = _is_everybodys(error)
        if shared and not _is_first_of_machine():
            # The launcher ends all processes when one fails: let the one that speaks be first.
            time.sleep(_HEAD_START)
        elif os.environ.get(LAUNCHER_VARIABLE) and os.environ.get('TORCHELASTIC_ERROR_FILE'):
            _hand_over((SharedError if shared else CibaError)(message_of(error)))
        else:
            report(error, None if shared or 'RANK' not in os.environ else launched_rank())
        _leave()


def _hand_over(error: CibaError) -> None:
    """Leave an error for the launcher, which reports it after all other output."""
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    get_error_handler().record_exception(error)


def launched_rank() -> int:
    """Return this process's rank as its launcher states it, before any process has joined."""
    for variable in ('RANK', 'OMPI_COMM_WORLD_RANK', 'SLURM_PROCID'):
        if os.environ.get(variable):
            return int(os.environ[variable])
    return 0


def _is_everybodys(error: CibaError) -> bool:
    """Return whether other processes meet the same error: none has begun its own part yet."""
    import torch.distributed

    return isinstance(error, SharedError) or not torch.distributed.is_initialized()


def _is_first_of_machine() -> bool:
    variables = ('LOCAL_RANK', 'OMPI_COMM_WORLD_LOCAL_RANK', 'SLURM_LOCALID')
    return all(os.environ.get(variable, '0') == '0' for variable in variables)


def _leave() -> None:
    """Exit with status 1, without waiting for processes that wait for this one."""
    import torch.distributed

    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        # An ordinary exit waits for the process group and the device, which may never answer.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    sys.exit(1)
