"""Temporal self-attention of BEV queries into the previous and the current BEV feature."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...ops import deformable_attention
from ...ops.pyramid import level_sizes
from ..attention import SamplingAttention, softmax_over_points
from .geometry import FrameGeometry

NUM_MAPS = 2  # the previous and the current BEV feature


class TemporalSelfAttention(SamplingAttention):
    """Deformable attention over the previous and the current BEV feature (BEVFormer, Eq. 5).

    Args:
        embed_dims: Channels.
        num_heads: Attention heads.
        num_points: Samples per head and BEV feature.
        dropout: Dropout of the output, before the residual connection.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        num_points: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(embed_dims, 2 * embed_dims, num_heads, NUM_MAPS, num_points)
        self.output_proj = nn.Linear(embed_dims, embed_dims)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        previous: Tensor,
        current: Tensor,
        geometry: FrameGeometry,
    ) -> Tensor:
        """Update the BEV queries.

        Args:
            query: (B, H * W, C).
            query_pos: Positional part of the query, (B, H * W, C).
            previous: Previous BEV feature, rotated to the current heading, (B, H * W, C).
            current: Current BEV feature, (B, H * W, C).
            geometry: Sampling positions in both features.

        Returns:
            (B, H * W, C).
        """
        seen = torch.cat((previous, query + query_pos), dim=-1)
        # Softmax within a feature: the two outputs are averaged.
        weights = self.attention_weights(seen)
        weights = softmax_over_points(
            weights.unflatten(-1, (self.num_heads, NUM_MAPS, self.num_points))
        )
        bev_shapes = (geometry.bev_shape,)
        anchors = geometry.bev_reference_points.unsqueeze(3)
        sizes = level_sizes(bev_shapes, query.device)
        locations = self.predict_locations(seen, anchors, sizes)
        # Both features are processed as one batch of 2B.
        value = self.project_value(torch.stack((previous, current), dim=1).flatten(0, 1))
        output = deformable_attention(
            value,
            bev_shapes,
            locations.permute(0, 3, 1, 2, 4, 5).flatten(0, 1).unsqueeze(3),
            weights.permute(0, 3, 1, 2, 4).flatten(0, 1).unsqueeze(3),
        )
        output = output.unflatten(0, (len(query), NUM_MAPS)).mean(1)
        return query + self.dropout(self.output_proj(output))
