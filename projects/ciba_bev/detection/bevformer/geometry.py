"""Where the BEV queries of one time step look: computed once, used by every encoder layer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.deformable_attention import SpatialShapes

# Rows of slots grow in steps, so that memory blocks of one frame fit the next.
_SLOT_STEP = 64


class VisibleQueries(NamedTuple):
    """The queries that each camera sees, packed into one row of slots a (sample, camera) pair.

    Attributes:
        query: Which query is in each slot, (B * cameras, slots) int64, an index into the (B * Q)
            queries of all samples.
        image_points: Where its pillar appears, (B * cameras, slots, heights, 2) as (x, y) in [0, 1]
            of the image.
        filled: Which slots hold a query, (B * cameras, slots, 1) bool.
        num_cameras: How many cameras see each query, at least one, (B, Q, 1) float32.
    """

    query: Tensor
    image_points: Tensor
    filled: Tensor
    num_cameras: Tensor


class FrameGeometry(NamedTuple):
    """What the layers of the encoder share in one time step.

    Attributes:
        bev_shape: Height (y) and width (x) of the BEV grid.
        bev_reference_points: Where each query looks in the previous and the current BEV feature,
            (B, Q, 2, 2) as (x, y) in [0, 1].
        image_shapes: Height and width of each image level.
        visible: The queries that the cameras see.
    """

    bev_shape: tuple[int, int]
    bev_reference_points: Tensor
    image_shapes: SpatialShapes
    visible: VisibleQueries


def pack_visible(image_points: Tensor, visible: Tensor, device: torch.device) -> VisibleQueries:
    """Pack the queries that the cameras see.

    How many slots are needed depends on the data, and on a GPU the processor would have to wait for
    the answer. So this takes tensors on the CPU, where the calibration comes from.

    Args:
        image_points: (B, cameras, Q, heights, 2) as (x, y) in [0, 1], on the CPU.
        visible: Which of them lie inside the image, (B, cameras, Q, heights) bool, on the CPU.
        device: Where the result is needed.

    Returns:
        The packed queries, on ``device``.
    """
    batch, num_cams, num_queries = image_points.shape[:3]
    seen = visible.any(-1).flatten(0, 1)
    counts = seen.sum(1)
    slots = -(-max(int(counts.max()), 1) // _SLOT_STEP) * _SLOT_STEP
    pair, query = seen.nonzero(as_tuple=True)
    slot = torch.arange(len(pair)) - (counts.cumsum(0) - counts)[pair]
    filled = torch.zeros(batch * num_cams, slots, 1, dtype=torch.bool)
    filled[pair, slot] = True
    points = image_points.new_zeros(batch * num_cams, slots, *image_points.shape[3:])
    points[pair, slot] = image_points.flatten(0, 1)[pair, query]
    index = torch.zeros(batch * num_cams, slots, dtype=torch.int64)
    index[pair, slot] = query + pair // num_cams * num_queries
    cameras = seen.view(batch, num_cams, num_queries).sum(1).clamp(min=1).float().unsqueeze(-1)
    return VisibleQueries(*(to_device(part, device) for part in (index, points, filled, cameras)))


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to a device without waiting for it."""
    if device.type == 'cuda' and tensor.device.type == 'cpu':
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
