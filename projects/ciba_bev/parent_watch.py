"""End a process when its parent process ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Callable

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> None:
    """Let the kernel kill this process when its parent ends, for any reason.

    The processes of a killed launcher or training would otherwise go on, write and remove
    checkpoints of the run that replaces it, or wait forever. Only Linux supports this; on other
    systems nothing happens.
    """
    if not sys.platform.startswith('linux'):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        # The parent ended before the call.
        os.kill(os.getpid(), signal.SIGKILL)


class WorkerInit:
    """A ``worker_init_fn`` that ends data loader workers with their training.

    Args:
        then: Another ``worker_init_fn`` to call afterwards; None for none.
    """

    def __init__(self, then: Callable[[int], None] | None) -> None:
        self.then = then

    def __call__(self, worker: int) -> None:
        """Initialise the worker with this index."""
        end_with_parent()
        if self.then is not None:
            self.then(worker)
