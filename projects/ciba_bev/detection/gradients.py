"""Run modules without a gradient, under autocast."""

from __future__ import annotations

import contextlib
from typing import Iterator

import torch


@contextlib.contextmanager
def without_gradient() -> Iterator[None]:
    """Disable gradients for modules that run again with a gradient in the same forward pass.

    Under autocast, torch caches the lower-precision copy of each weight. torch 2.1 also caches
    copies made without a gradient, so that a weight that is used again would silently get no
    gradient. The cache is therefore cleared at the end of the context.

    Yields:
        None.
    """
    try:
        with torch.no_grad():
            yield
    finally:
        torch.clear_autocast_cache()
