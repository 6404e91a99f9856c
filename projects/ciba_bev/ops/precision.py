"""The precision of what runs on a GPU."""

from __future__ import annotations

import torch


def has_bfloat16(device: torch.device | None = None) -> bool:
    """Return whether a GPU computes in bfloat16.

    ``torch.cuda.is_bf16_supported`` is true for GPUs before Ampere too, which only emulate it.

    Args:
        device: The GPU; None for the current one.

    Returns:
        Whether it has instructions for it.
    """
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
