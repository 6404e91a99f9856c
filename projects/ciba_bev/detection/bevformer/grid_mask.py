"""GridMask augmentation: mask a random lattice of squares in the images."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GridMask(nn.Module):
    """Set a regular lattice of squares to zero during training (Chen et al., 2020).

    All images of a batch have the same lattice.

    Args:
        ratio: Fraction of each period, along each axis, that is kept.
        probability: Probability of applying the mask.
    """

    def __init__(self, ratio: float = 0.5, probability: float = 0.7) -> None:
        super().__init__()
        self.ratio = ratio
        self.probability = probability

    def forward(self, images: Tensor) -> Tensor:
        """Mask images in training mode.

        Args:
            images: (N, C, H, W).

        Returns:
            (N, C, H, W).
        """
        if not self.training or float(torch.rand(())) > self.probability:
            return images
        height, width = images.shape[-2:]
        period = int(torch.randint(2, height, ()))
        kept = min(max(round(period * self.ratio), 1), period - 1)
        rows = self._stripes(height, period, kept, images.device)
        columns = self._stripes(width, period, kept, images.device)
        return images * (rows[:, None] | columns).to(images.dtype)

    @staticmethod
    def _stripes(size: int, period: int, kept: int, device: torch.device) -> Tensor:
        start = int(torch.randint(period, ()))
        return (torch.arange(size, device=device) + start) % period < kept
