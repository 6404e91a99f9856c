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

# The message of an error from a data loader worker: a preamble, a trace, the original message.
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


def error_message(error: BaseException) -> str:
    """Return the message of an error, without the trace that a data loader worker adds.

    Args:
        error: Any exception.

    Returns:
        The message, without trailing white space.
    """
    message = str(error)
    from_worker = _FROM_WORKER.match(message)
    return (from_worker.group('message') if from_worker else message).rstrip()


def report(error: CibaError, rank: int | None = None) -> None:
    """Print an error's message to the standard error stream.

    Args:
        error: The error.
        rank: Rank of the process that raised it, if the others did not; else None.
    """
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(f'[bold red]error{"" if rank is None else f" (process {rank})"}:[/] ', end='')
    console.print(error_message(error), markup=False)


def exit_with_message(command: Callable[[], None], show_traceback: bool = False) -> None:
    """Run a command; exit with status 1 and a short message if it raises a :class:`CibaError`.

    Args:
        command: The command.
        show_traceback: Whether to raise the error, with its trace, instead. The environment
            variable ``CIBA_TRACEBACK=1`` does the same.
    """
    try:
        command()
    except CibaError as error:
        if show_traceback or os.environ.get(TRACEBACK_VARIABLE):
            raise
        shared = _is_shared(error)
        if shared and not _is_first_of_machine():
            # The launcher ends all processes when one fails: let the reporting one be the first.
            time.sleep(_HEAD_START)
        elif os.environ.get(LAUNCHER_VARIABLE) and os.environ.get('TORCHELASTIC_ERROR_FILE'):
            _pass_to_launcher((SharedError if shared else CibaError)(error_message(error)))
        else:
            report(error, None if shared or 'RANK' not in os.environ else launched_rank())
        _exit()


def _pass_to_launcher(error: CibaError) -> None:
    """Store an error for the launcher, which reports it after all other output."""
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    get_error_handler().record_exception(error)


def launched_rank() -> int:
    """Return the rank of this process from its launcher's environment variables.

    Unlike ``torch.distributed.get_rank`` this works before the process group is initialised.

    Returns:
        The rank, 0 without a launcher.
    """
    for variable in ('RANK', 'OMPI_COMM_WORLD_RANK', 'SLURM_PROCID'):
        if os.environ.get(variable):
            return int(os.environ[variable])
    return 0


def _is_shared(error: CibaError) -> bool:
    """Return whether all processes raise the same error, as before the group is initialised."""
    import torch.distributed

    return isinstance(error, SharedError) or not torch.distributed.is_initialized()


def _is_first_of_machine() -> bool:
    variables = ('LOCAL_RANK', 'OMPI_COMM_WORLD_LOCAL_RANK', 'SLURM_LOCALID')
    return all(os.environ.get(variable, '0') == '0' for variable in variables)


def _exit() -> None:
    """Exit with status 1, without waiting for other processes."""
    import torch.distributed

    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        # An ordinary exit waits for the process group and the device, which may never answer.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    sys.exit(1)
