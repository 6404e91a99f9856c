"""Where compiled loops do the work, tensors as their arrays, and threads to run them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any, Callable

import numpy as np
import torch
from numba import njit
from torch import Tensor

# On other devices PyTorch's own operators do the work.
DEVICES_WITH_LOOPS = ('cpu',)


def uses_loops(tensor: Tensor) -> bool:
    """Return whether compiled loops compute on the device of ``tensor``."""
    return tensor.device.type in DEVICES_WITH_LOOPS


def compiled(**options: Any) -> Callable[[Callable], Callable]:
    """Compile a function with Numba, once per machine; other threads run beside it.

    Division by zero gives infinity or NaN, as in compiled code of other languages.
    """

    def decorate(function: Callable) -> Callable:
        settings = dict(nogil=True, error_model='numpy', **options)
        try:
            return njit(cache=True, **settings)(function)
        except RuntimeError:  # There is no folder that the compiled code could be kept in.
            return njit(**settings)(function)

    return decorate


def without_autocast(function: Callable) -> Callable:
    """Let PyTorch compute in the types that it is given, as compiled operators do."""

    @wraps(function)
    def wrapper(tensor: Tensor, *arguments: Any, **options: Any) -> Any:
        with torch.autocast(tensor.device.type, enabled=False):
            return function(tensor, *arguments, **options)

    return wrapper


def to_array(tensor: Tensor) -> np.ndarray:
    """Return a CPU tensor's values, without a copy if they lie in order and NumPy has the type."""
    tensor = tensor.detach()
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    return tensor.contiguous().numpy()


def in_threads(count: int, kernel: Callable[..., None], *arguments: Any, at_least: int = 1) -> None:
    """Call ``kernel(*arguments, first, last)`` for parts of ``range(count)``, all at once.

    A thread takes ``at_least`` so many, as starting one takes a tenth of a millisecond.

    Plain threads carry the compiled code: unlike OpenMP's they survive the forks of data loaders
    and do not spin while other processes work. There are as many as PyTorch would use.
    """
    threads = min(torch.get_num_threads(), count // at_least)
    if threads <= 1:
        kernel(*arguments, 0, count)
        return
    bounds = np.linspace(0, count, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        jobs = [
            pool.submit(kernel, *arguments, first, last)
            for first, last in zip(bounds[:-1], bounds[1:])
        ]
        for job in jobs:
            job.result()
