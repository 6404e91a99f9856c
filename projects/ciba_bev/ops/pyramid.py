"""Describe the memory layout of a flattened feature pyramid."""

from __future__ import annotations

from itertools import accumulate
from typing import Sequence

import torch
from torch import Tensor

from .constants import constant_tensor

SpatialShapes = Sequence['tuple[int, int]']


def level_starts(spatial_shapes: SpatialShapes) -> tuple[int, ...]:
    """Return the first cell of each level of a flattened pyramid.

    Args:
        spatial_shapes: Height and width of each level.

    Returns:
        One index for each level, starting at 0.
    """
    sizes = [height * width for height, width in spatial_shapes]
    return tuple(accumulate(sizes[:-1], initial=0))


def level_sizes(spatial_shapes: SpatialShapes, device: torch.device) -> Tensor:
    """Return the number of cells along x and y of each level, cached on the device.

    Args:
        spatial_shapes: Height and width of each level.
        device: Device of the result.

    Returns:
        (levels, 2) float32 as (width, height); divides offsets in cells into relative ones. It is
        shared between calls: never write into it.
    """
    sizes = tuple((width, height) for height, width in spatial_shapes)
    return constant_tensor(sizes, torch.float32, device)
