"""Processes that end when the one that started them has ended."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Callable

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, in whatever way.

    A launcher or a training that is killed takes leave of nobody. What it had started would go on:
    write and remove checkpoints beside the run that takes its place, or wait for ever with a batch
    that nobody fetches. On systems other than Linux nothing happens.
    """
    if not sys.platform.startswith('linux'):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        # It ended just before.
        os.kill(os.getpid(), signal.SIGKILL)


class LoadingProcessStart:
    """What a data-loading process does first: tie itself to its training, then what else it has to.

    Args:
        then: The ``worker_init_fn`` that the data loader has otherwise.
    """

    def __init__(self, then: Callable[[int], None] | None) -> None:
        self.then = then

    def __call__(self, worker: int) -> None:
        """Start a data-loading process, given its number."""
        end_with_parent()
        if self.then is not None:
            self.then(worker)
