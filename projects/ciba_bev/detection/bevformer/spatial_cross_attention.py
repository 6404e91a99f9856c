"""Spatial cross-attention of BEV queries into the camera images."""

from __future__ import annotations

from torch import Tensor, nn

from ...ops import deformable_attention
from ...ops.deformable_attention import SpatialShapes
from ...ops.pyramid import level_sizes
from ...precision import at_least_single
from ..attention import SamplingAttention, softmax_over_points
from .geometry import FrameGeometry


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
        weights = softmax_over_points(
            self.attention_weights(query).unflatten(-1, (self.num_heads, -1))
        )
        repeats = self.num_points // reference_points.size(2)
        anchors = reference_points.repeat(1, 1, repeats, 1).unsqueeze(2)
        sizes = level_sizes(spatial_shapes, query.device)
        locations = self.predict_locations(query, anchors, sizes)
        return deformable_attention(
            self.project_value(value),
            spatial_shapes,
            locations,
            weights.flatten(2).unflatten(-1, shape),
        )


class SpatialCrossAttention(nn.Module):
    """Attention from BEV queries into camera images (BEVFormer, Eq. 3).

    The output of each query is averaged over the cameras in which its pillar is visible. All
    samples and cameras are processed in one call, with packed queries (:class:`VisibleQueries`).

    Args:
        embed_dims: Channels.
        num_heads: Attention heads.
        num_levels: Levels of the image features.
        num_points: Samples per head and level; a multiple of the pillar heights.
        dropout: Dropout of the output, before the residual connection.
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

    def forward(self, query: Tensor, image_features: Tensor, geometry: FrameGeometry) -> Tensor:
        """Update the BEV queries from the images.

        Args:
            query: (B, Q, C).
            image_features: (B, cameras, S, C), all levels of a camera flattened.
            geometry: Image points of the visible queries.

        Returns:
            (B, Q, C).
        """
        visible = geometry.visible
        # In the backward pass, indexing with brackets would sort all slots by their query.
        asking = query.flatten(0, 1).index_select(0, visible.query.flatten())
        answers = self.deformable_attention(
            asking.unflatten(0, visible.query.shape),
            image_features.flatten(0, 1),
            visible.image_points,
            geometry.image_shapes,
        )
        # Cameras are summed in float32, whatever autocast made of their answers.
        answers = at_least_single((answers * visible.filled).flatten(0, 1))
        total = answers.new_zeros(query.size(0) * query.size(1), answers.size(-1))
        total = total.index_add_(0, visible.query.flatten(), answers).view_as(query)
        output = self.output_proj(total / visible.num_cameras)
        return query + self.dropout(output)
