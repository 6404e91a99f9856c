"""The precision of what runs on a GPU."""

from __future__ import annotations

import contextlib
from typing import Iterator

import torch
from torch import Tensor


def has_bfloat16(device: torch.device | None = None) -> bool:
    """Return whether a GPU computes in bfloat16.

    ``torch.cuda.is_bf16_supported`` is true for GPUs before Ampere too, which only emulate it.

    Args:
        device: The GPU; None for the current one.

    Returns:
        Whether it has instructions for it.
    """
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)


def at_least_single(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 if it is in half precision, otherwise the tensor itself."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


@contextlib.contextmanager
def full_products() -> Iterator[None]:
    """Compute matrix products of float32 tensors in float32, also where TF32 is allowed.

    For distances: TF32 has the ten bits of float16, and the nearest of many may be another one.

    Yields:
        None.
    """
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('highest')
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(allowed)
