"""How the command-line tools end when something the user can mend went wrong."""

from __future__ import annotations

import os
import re
import sys
import time
from typing import Callable

import torch.distributed
from rich.console import Console

from ..errors import CibaError

TRACEBACK_VARIABLE = 'CIBA_TRACEBACK'
_HEAD_START = 3.0  # seconds

# A data-loading process hands its error over as text: a preamble, a trace, then the message.
_FROM_WORKER = re.compile(
    r'Caught \w+ in .*?Original Traceback.*\n[\w.]+Error: (?P<message>.*)', re.S
)


def message_of(error: BaseException) -> str:
    """What an error says, without the trace that a data-loading process puts before it."""
    message = str(error)
    handed_over = _FROM_WORKER.match(message)
    return (handed_over.group('message') if handed_over else message).rstrip()


def report(error: CibaError) -> None:
    """Print an error's message to the standard error stream, naming the process if several run."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    rank = os.environ.get('RANK')
    place = f' (process {rank})' if rank is not None else ''
    console.print(f'[bold red]error{place}:[/] ', end='')
    console.print(message_of(error), markup=False)


def exit_with_message(command: Callable[[], None], show_traceback: bool = False) -> None:
    """Run a command; end with status 1 and a short message if it raises a :class:`CibaError`.

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
    """Whether another process is meeting the same error: no process has begun its own part yet."""
    return os.environ.get('RANK', '0') != '0' and not torch.distributed.is_initialized()
