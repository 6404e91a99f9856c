"""Run modules without a gradient, in evaluation mode or under autocast."""

from __future__ import annotations

import contextlib
from typing import Iterator

import torch
from torch import nn


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


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and what was in training mode back into that at the end.

    In every step ``eval()`` and ``train()`` would go through all modules twice, and backbones again
    for their frozen stages.

    Args:
        model: The model.

    Yields:
        None.
    """
    switched = [module for module in model.modules() if module.training]
    try:
        for module in switched:
            module.training = False
        yield
    finally:
        for module in switched:
            module.training = True
