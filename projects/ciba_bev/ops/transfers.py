"""Copies between devices that nothing waits for."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device, without synchronisation.

    Args:
        tensor: Any tensor.
        device: The device.

    Returns:
        The tensor on the device.
    """
    if device.type == 'cuda' and tensor.device.type == 'cpu':
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
