"""Sampling positions of the BEV queries of one time step, used by every encoder layer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.deformable_attention import SpatialShapes
from ...ops.transfers import to_device

# The number of slots is rounded up, so that memory can be reused between frames.
_SLOT_STEP = 64
# Image point of an empty slot: so far outside that no offset leads back, and nothing is read.
_OUTSIDE = -10.0


class VisibleQueries(NamedTuple):
    """The queries that are visible in each camera, packed into slots per sample and camera.

    Attributes:
        query: Query of each slot, (B * cameras, slots) int64, an index into the B * Q queries of
            all samples; in empty slots any, each about as often as the others.
        image_points: Image points of its pillar, (B * cameras, slots, heights, 2) as (x, y) in
            [0, 1] of the image; in empty slots far outside.
        filled: Whether a slot has a query, (B * cameras, slots, 1) bool.
        num_cameras: Number of cameras that see each query, at least one, (B, Q, 1) float32.
    """

    query: Tensor
    image_points: Tensor
    filled: Tensor
    num_cameras: Tensor


class FrameGeometry(NamedTuple):
    """Geometry of one time step, which all layers of the encoder use.

    Attributes:
        bev_shape: Height (y) and width (x) of the BEV grid.
        bev_reference_points: Position of each query in the previous and the current BEV feature,
            (B, Q, 2, 2) as (x, y) in [0, 1].
        image_shapes: Height and width of each image level.
        visible: The queries that are visible in the cameras.
    """

    bev_shape: tuple[int, int]
    bev_reference_points: Tensor
    image_shapes: SpatialShapes
    visible: VisibleQueries


def pack_visible(image_points: Tensor, visible: Tensor, device: torch.device) -> VisibleQueries:
    """Pack the queries that are visible in the cameras.

    The number of slots depends on the data. To compute it on a GPU, the CPU would have to wait, so
    that the inputs, which follow from the calibration, are on the CPU.

    Args:
        image_points: (B, cameras, Q, heights, 2) as (x, y) in [0, 1], on the CPU.
        visible: Whether they are inside the image, (B, cameras, Q, heights) bool, on the CPU.
        device: Device of the result.

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
    points = image_points.new_full((*filled.shape[:2], *image_points.shape[3:]), _OUTSIDE)
    points[pair, slot] = image_points.flatten(0, 1)[pair, query]
    # Not the same query for all empty slots: a GPU would add their zeros to it one by one.
    index = torch.arange(filled.numel()).remainder(batch * num_queries).view(filled.shape[:2])
    index[pair, slot] = query + pair // num_cams * num_queries
    cameras = seen.view(batch, num_cams, num_queries).sum(1).clamp(min=1).float().unsqueeze(-1)
    return VisibleQueries(*(to_device(part, device) for part in (index, points, filled, cameras)))
