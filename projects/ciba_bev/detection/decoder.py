"""The decoder that reads object queries from a BEV feature."""

from __future__ import annotations

from typing import Callable, Sequence

import torch
from torch import Tensor, nn

from ..ops.deformable_attention import SpatialShapes
from .attention import DeformableAttention, feed_forward, inverse_sigmoid
from .gradients import without_gradient

# Indices of cx, cy and cz in a regression code (see box_coding).
CENTER_CODES = (0, 1, 4)


class DecoderLayer(nn.Module):
    """Self-attention between queries, deformable attention into the BEV feature, feed-forward.

    Args:
        self_attention: A module that is called as ``self_attention(query, query_pos)``.
        embed_dims: Channels.
        num_heads: Heads of the deformable attention.
        num_levels: Levels of the BEV pyramid.
        num_points: Samples per head and level.
        feedforward_channels: Hidden channels of the feed-forward part.
        dropout: Dropout of all parts.
    """

    def __init__(
        self,
        self_attention: nn.Module,
        embed_dims: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        feedforward_channels: int,
        dropout: float,
    ) -> None:
        super().__init__()
        cross_attention = DeformableAttention(
            embed_dims, num_heads, num_levels, num_points, dropout
        )
        self.attentions = nn.ModuleList([self_attention, cross_attention])
        self.ffns = nn.ModuleList([feed_forward(embed_dims, feedforward_channels, dropout)])
        self.norms = nn.ModuleList([nn.LayerNorm(embed_dims) for _ in range(3)])

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        value: Tensor,
        reference_points: Tensor,
        spatial_shapes: SpatialShapes,
    ) -> Tensor:
        """Update the queries from a BEV pyramid.

        Args:
            query: (B, Q, C).
            query_pos: Positional part of the query, (B, Q, C).
            value: BEV pyramid, (B, S, C).
            reference_points: (B, Q, 2) as (x, y) in [0, 1] of the grid.
            spatial_shapes: Height and width of each level of the pyramid.

        Returns:
            (B, Q, C).
        """
        query = self.norms[0](self.attentions[0](query, query_pos))
        query = self.attentions[1](query, value, query_pos, reference_points, spatial_shapes)
        return self.norms[2](self.ffns[0](self.norms[1](query)))


class RefiningDecoder(nn.Module):
    """Decoder layers, each of which refines the reference points (Deformable DETR, Sec. 4.2).

    Args:
        make_layer: Builds a layer; called ``num_layers`` times.
        num_layers: Number of layers.
    """

    def __init__(self, make_layer: Callable[[], DecoderLayer], num_layers: int = 6) -> None:
        super().__init__()
        self.layers = nn.ModuleList([make_layer() for _ in range(num_layers)])

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        value: Tensor,
        reference_points: Tensor,
        spatial_shapes: SpatialShapes,
        reg_branches: Sequence[nn.Module],
    ) -> tuple[Tensor, Tensor]:
        """Decode all layers.

        Args:
            query: (B, Q, C).
            query_pos: (B, Q, C).
            value: BEV pyramid, (B, S, C).
            reference_points: (B, Q, 2 or 3) as (x, y[, z]) in [0, 1] of the point-cloud range.
            spatial_shapes: Height and width of each level of the pyramid.
            reg_branches: One box branch per layer, (B, Q, C) to (B, Q, 10).

        Returns:
            Hidden states (layers, B, Q, C), and the reference points that each layer started
            from (layers, B, Q, 2 or 3).
        """
        states, references = [], []
        center = CENTER_CODES[: reference_points.size(-1)]
        for layer, reg_branch in zip(self.layers, reg_branches):
            references.append(reference_points)
            query = layer(query, query_pos, value, reference_points[..., :2], spatial_shapes)
            states.append(query)
            # Box refinement: the next layer samples around the box predicted by this one. The
            # gradient of a box stays within its layer.
            with without_gradient():
                codes = reg_branch(query).float()
                # A list of indices would be copied to the device, which waits.
                step = torch.stack([codes[..., code] for code in center], dim=-1)
                reference_points = (step + inverse_sigmoid(reference_points)).sigmoid()
        return torch.stack(states), torch.stack(references)
