"""Errors that the user can fix, and how the command-line tools show them."""

from __future__ import annotations

import os
import re
import sys
import time
from typing import Callable

TRACEBACK_VARIABLE = 'CIBA_TRACEBACK'
_HEAD_START = 3.0  # seconds

# A data-loading process hands its error over as text: a preamble, a trace, then the message.
_FROM_WORKER = re.compile(
    r'Caught \w+ in .*?Original Traceback.*\n[\w.]+Error: (?P<message>.*)', re.S
)


class CibaError(RuntimeError):
    """An error that the user can fix. Command-line tools print its message without a trace."""


class ConfigError(CibaError, ValueError):
    """An argument or a config field has a value that is not allowed."""


def message_of(error: BaseException) -> str:
    """Return an error's message without the trace that a data-loading process puts before it.

    Args:
        error: Any exception.
    """
    message = str(error)
    handed_over = _FROM_WORKER.match(message)
    return (handed_over.group('message') if handed_over else message).rstrip()


def report(error: CibaError) -> None:
    """Print an error's message to the standard error stream.

    Args:
        error: The error. With several processes the message names this one's rank.
    """
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    rank = os.environ.get('RANK')
    place = f' (process {rank})' if rank is not None else ''
    console.print(f'[bold red]error{place}:[/] ', end='')
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
        if _is_follower():
            # The launcher ends all processes when one fails: let the one that speaks be first.
            time.sleep(_HEAD_START)
        else:
            report(error)
        sys.exit(1)


def _is_follower() -> bool:
    """Whether another process meets the same error: no process has begun its own part yet."""
    import torch.distributed

    return os.environ.get('RANK', '0') != '0' and not torch.distributed.is_initialized()
