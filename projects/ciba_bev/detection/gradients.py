"""Passes without a gradient through modules that also learn."""

from __future__ import annotations

import contextlib
from typing import Iterator

import torch


@contextlib.contextmanager
def without_gradient() -> Iterator[None]:
    """Like ``torch.no_grad()``, for modules that run again with a gradient in the same pass.

    Under autocast, torch keeps each weight's copy in lower precision until the end. torch 2.1
    keeps those made without a gradient, too, and a weight that is used a second time would silently
    get none. So the copies are dropped at the end of this block.
    """
    try:
        with torch.no_grad():
            yield
    finally:
        torch.clear_autocast_cache()
