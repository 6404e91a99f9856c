"""Spatial cross-attention: each BEV query reads the cameras that see its pillar."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...ops import deformable_attention
from ...ops.deformable_attention import SpatialShapes
from ..attention import SamplingAttention


class PillarAttention(SamplingAttention):
    """Deformable attention around the image points of a pillar, in one camera.

    Point ``p`` of a head belongs to pillar height ``p % heights``.
    """

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        reference_points: Tensor,
        spatial_shapes: SpatialShapes,
    ) -> Tensor:
        """Read a feature pyramid.

        Args:
            query: (B, Q, C).
            value: (B, S, C).
            reference_points: (B, Q, heights, 2) as (x, y) in [0, 1] of the image.
            spatial_shapes: Height and width of each level.

        Returns:
            (B, Q, C), not yet projected.
        """
        shape = (self.num_heads, self.num_maps, self.num_points)
        weights = self.attention_weights(query).unflatten(-1, (self.num_heads, -1)).softmax(-1)
        offsets = self.predict_offsets(query)
        sizes = offsets.new_tensor([(width, height) for height, width in spatial_shapes])
        repeats = self.num_points // reference_points.size(2)
        anchors = reference_points.repeat(1, 1, repeats, 1)[:, :, None, None]
        locations = anchors + offsets / sizes[:, None]
        return deformable_attention(
            self.project_value(value),
            spatial_shapes,
            locations,
            weights.flatten(2).unflatten(-1, shape),
        )


class SpatialCrossAttention(nn.Module):
    """Attention from BEV queries into six camera images at once (BEVFormer, Eq. 3).

    Each query is shown only to the cameras that see its pillar, and the answers are averaged over
    those cameras. All samples and cameras go through one call: the visible queries of each pair
    are packed to the front, as many as the fullest pair needs.

    Args:
        embed_dims: Channels.
        num_heads: Attention heads.
        num_levels: Levels of the image features.
        num_points: Samples per head and level; a multiple of the pillar heights.
        dropout: On the output, before the input is added.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 8,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.deformable_attention = PillarAttention(
            embed_dims, embed_dims, num_heads, num_levels, num_points
        )
        self.output_proj = nn.Linear(embed_dims, embed_dims)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        query: Tensor,
        image_features: Tensor,
        spatial_shapes: SpatialShapes,
        reference_points: Tensor,
        visible: Tensor,
    ) -> Tensor:
        """Update the BEV queries from the images.

        Args:
            query: (B, Q, C).
            image_features: (B, cameras, S, C), all levels of a camera flattened.
            spatial_shapes: Height and width of each level.
            reference_points: Image points of each query's pillar, (B, cameras, Q, heights, 2) as
                (x, y) in [0, 1].
            visible: Which of them lie inside the image, (B, cameras, Q, heights) bool.

        Returns:
            (B, Q, C).
        """
        batch, num_cams, num_queries = reference_points.shape[:3]
        pairs = batch * num_cams
        seen = visible.any(-1).flatten(0, 1)
        # A stable sort puts the visible queries of each (sample, camera) first, in order.
        capacity = max(int(seen.sum(1).max()), 1)
        chosen = seen.byte().argsort(dim=1, descending=True, stable=True)[:, :capacity]
        valid = seen.gather(1, chosen)

        pair = torch.arange(pairs, device=query.device).unsqueeze(1)
        sample = torch.div(pair, num_cams, rounding_mode='floor')
        answers = self.deformable_attention(
            query[sample, chosen],
            image_features.flatten(0, 1),
            reference_points.flatten(0, 1)[pair, chosen],
            spatial_shapes,
        )
        answers = answers * valid.unsqueeze(-1)

        target = (sample * num_queries + chosen).flatten()
        total = answers.new_zeros(batch * num_queries, answers.size(-1))
        total = total.index_add(0, target, answers.flatten(0, 1)).view(batch, num_queries, -1)
        cameras = seen.view(batch, num_cams, num_queries).sum(1).clamp(min=1)
        output = self.output_proj(total / cameras.unsqueeze(-1))
        return query + self.dropout(output)
