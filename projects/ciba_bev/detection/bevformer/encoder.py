"""The encoder of BEVFormer: BEV queries attend to the previous BEV feature and to the images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..attention import feed_forward
from .geometry import FrameGeometry
from .spatial_cross_attention import SpatialCrossAttention
from .temporal_self_attention import TemporalSelfAttention


class BEVFormerEncoderLayer(nn.Module):
    """Temporal self-attention, spatial cross-attention, feed-forward, each with its norm.

    Args:
        embed_dims: Channels.
        num_heads: Heads of both attentions.
        num_levels: Levels of the image features.
        num_temporal_points: Samples per head and BEV feature.
        num_spatial_points: Samples per head and image level.
        feedforward_channels: Hidden channels of the feed-forward part.
        dropout: Dropout of all parts.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        num_levels: int,
        num_temporal_points: int,
        num_spatial_points: int,
        feedforward_channels: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(
            [
                TemporalSelfAttention(embed_dims, num_heads, num_temporal_points, dropout),
                SpatialCrossAttention(
                    embed_dims, num_heads, num_levels, num_spatial_points, dropout
                ),
            ]
        )
        self.ffns = nn.ModuleList([feed_forward(embed_dims, feedforward_channels, dropout)])
        self.norms = nn.ModuleList([nn.LayerNorm(embed_dims) for _ in range(3)])

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        previous: Tensor,
        current: Tensor,
        image_features: Tensor,
        geometry: FrameGeometry,
    ) -> Tensor:
        """Update the BEV queries.

        Args:
            query: (B, H * W, C).
            query_pos: Positional part of the query, (B, H * W, C).
            previous: See :meth:`TemporalSelfAttention.forward`.
            current: See :meth:`TemporalSelfAttention.forward`.
            image_features: See :meth:`SpatialCrossAttention.forward`.
            geometry: Sampling positions of the queries.

        Returns:
            (B, H * W, C).
        """
        temporal, spatial = self.attentions
        query = self.norms[0](temporal(query, query_pos, previous, current, geometry))
        query = self.norms[1](spatial(query, image_features, geometry))
        return self.norms[2](self.ffns[0](query))


class BEVFormerEncoder(nn.Module):
    """Several encoder layers; the output is the BEV feature.

    Args:
        layers: The layers.
        with_cp: Whether to recompute each layer in the backward pass, which saves memory.
    """

    def __init__(self, layers: list[BEVFormerEncoderLayer], with_cp: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.with_cp = with_cp

    def forward(
        self,
        bev_queries: Tensor,
        query_pos: Tensor,
        prev_bev: Tensor | None,
        has_previous: Tensor | None,
        image_features: Tensor,
        geometry: FrameGeometry,
    ) -> Tensor:
        """Encode one time step.

        Args:
            bev_queries: (B, H * W, C), row-major, row = y.
            query_pos: (B, H * W, C).
            prev_bev: BEV feature of the previous step, rotated to the current heading,
                (B, H * W, C); None if no sample has one.
            has_previous: Samples with a previous step, (B,) bool; None with ``prev_bev``.
            image_features: (B, cameras, S, C), all levels of a camera flattened.
            geometry: Sampling positions of the queries.

        Returns:
            BEV feature (B, H * W, C).
        """
        query = bev_queries
        for layer in self.layers:
            previous = current = query
            if prev_bev is not None:
                # Samples without a past read their own queries twice, as without prev_bev.
                chosen = has_previous.view(-1, 1, 1)
                previous = torch.where(chosen, prev_bev, query)
                current = torch.where(chosen, bev_queries, query)
            arguments = (query, query_pos, previous, current, image_features, geometry)
            if self.with_cp and torch.is_grad_enabled():
                query = checkpoint(layer, *arguments, use_reentrant=False)
            else:
                query = layer(*arguments)
        return query
