"""The transformer of Object-DGCNN: a deformable encoder of BEV levels, and a query decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...ops.deformable_attention import SpatialShapes
from ..attention import (
    DeformableAttention,
    MultiheadSelfAttention,
    PreciseLinear,
    feed_forward,
    initialize_transformer,
)
from ..decoder import DecoderLayer, RefiningDecoder
from .graph_attention import GraphSelfAttention


class BEVPyramidEncoderLayer(nn.Module):
    """Deformable self-attention of a BEV pyramid, then feed-forward.

    Args:
        embed_dims: Channels.
        num_heads: Attention heads.
        num_levels: Levels of the pyramid.
        num_points: Samples per head and level.
        feedforward_channels: Hidden channels of the feed-forward part.
        dropout: Dropout of all parts.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        feedforward_channels: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(
            [DeformableAttention(embed_dims, num_heads, num_levels, num_points, dropout)]
        )
        self.ffns = nn.ModuleList([feed_forward(embed_dims, feedforward_channels, dropout)])
        self.norms = nn.ModuleList([nn.LayerNorm(embed_dims) for _ in range(2)])

    def forward(
        self,
        pyramid: Tensor,
        position: Tensor,
        reference_points: Tensor,
        spatial_shapes: SpatialShapes,
    ) -> Tensor:
        """Update a pyramid.

        Args:
            pyramid: Flattened pyramid, (B, S, C).
            position: Positional encoding, (B, S, C).
            reference_points: Centres of the cells, (B, S, 2) as (x, y) in [0, 1].
            spatial_shapes: Height and width of each level.

        Returns:
            (B, S, C).
        """
        pyramid = self.attentions[0](pyramid, pyramid, position, reference_points, spatial_shapes)
        return self.norms[1](self.ffns[0](self.norms[0](pyramid)))


class BEVPyramidEncoder(nn.Module):
    """Several :class:`BEVPyramidEncoderLayer`.

    Args:
        layers: The layers.
    """

    def __init__(self, layers: list[BEVPyramidEncoderLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, pyramid: Tensor, position: Tensor, spatial_shapes: SpatialShapes) -> Tensor:
        """Encode a pyramid.

        Args:
            pyramid: Flattened pyramid, (B, S, C).
            position: Positional encoding, (B, S, C).
            spatial_shapes: Height and width of each level.

        Returns:
            (B, S, C).
        """
        reference_points = cell_centers(spatial_shapes, pyramid.device).expand(len(pyramid), -1, -1)
        for layer in self.layers:
            pyramid = layer(pyramid, position, reference_points, spatial_shapes)
        return pyramid


def cell_centers(spatial_shapes: SpatialShapes, device: torch.device) -> Tensor:
    """Return the centres of all cells of a pyramid.

    Args:
        spatial_shapes: Height and width of each level.
        device: Device of the result.

    Returns:
        (1, S, 2) as (x, y) in [0, 1], level by level, row-major, float32.
    """
    centers = []
    for height, width in spatial_shapes:
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
        grid_y, grid_x = torch.meshgrid(y, x, indexing='ij')
        centers.append(torch.stack((grid_x, grid_y), dim=-1).flatten(0, 1))
    return torch.cat(centers).unsqueeze(0)


class ObjectDGCNNTransformer(nn.Module):
    """Encode a BEV pyramid and decode object queries from it.

    Args:
        embed_dims: Channels.
        num_levels: Levels of the pyramid.
        num_heads: Heads of every attention.
        num_points: Samples per head and level.
        encoder_layers: Layers of the deformable encoder.
        decoder_layers: Layers of the decoder.
        feedforward_channels: Hidden channels of the feed-forward parts.
        self_attention: ``'graph'`` (DGCNN, the paper's) or ``'multihead'``.
        num_neighbors: K of the graph attention.
        dropout: Dropout of all parts.

    Raises:
        ConfigError: ``self_attention`` is neither of the two.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_levels: int = 4,
        num_heads: int = 8,
        num_points: int = 4,
        encoder_layers: int = 2,
        decoder_layers: int = 6,
        feedforward_channels: int = 512,
        self_attention: str = 'graph',
        num_neighbors: int = 16,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if self_attention not in ('graph', 'multihead'):
            raise ConfigError(
                f"self_attention must be 'graph' or 'multihead', got {self_attention!r}"
            )

        def make_self_attention() -> nn.Module:
            if self_attention == 'graph':
                return GraphSelfAttention(embed_dims, num_neighbors, dropout)
            return MultiheadSelfAttention(embed_dims, num_heads, dropout)

        self.encoder = BEVPyramidEncoder(
            [
                BEVPyramidEncoderLayer(
                    embed_dims, num_heads, num_levels, num_points, feedforward_channels, dropout
                )
                for _ in range(encoder_layers)
            ]
        )
        self.decoder = RefiningDecoder(
            lambda: DecoderLayer(
                make_self_attention(),
                embed_dims,
                num_heads,
                num_levels,
                num_points,
                feedforward_channels,
                dropout,
            ),
            decoder_layers,
        )
        self.level_embeds = nn.Parameter(torch.empty(num_levels, embed_dims))
        self.reference_points = PreciseLinear(embed_dims, 2)
        initialize_transformer(self)
        nn.init.normal_(self.level_embeds)
        nn.init.zeros_(self.reference_points.bias)

    def forward(
        self,
        bev_levels: list[Tensor],
        bev_positions: list[Tensor],
        query_embedding: Tensor,
        reg_branches: nn.ModuleList,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run encoder and decoder.

        Args:
            bev_levels: BEV features, finest first, each (B, C, h, w).
            bev_positions: Positional encodings, each (B, C, h, w).
            query_embedding: (Q, 2C), position and content.
            reg_branches: Box branches that refine the reference points.

        Returns:
            The encoded first level (B, C, h, w), decoder states (layers, B, Q, C) and their
            reference points (layers, B, Q, 2).
        """
        shapes = [tuple(level.shape[-2:]) for level in bev_levels]
        pyramid = torch.cat([level.flatten(2).transpose(1, 2) for level in bev_levels], dim=1)
        position = torch.cat(
            [
                encoding.flatten(2).transpose(1, 2) + embed
                for encoding, embed in zip(bev_positions, self.level_embeds)
            ],
            dim=1,
        )
        memory = self.encoder(pyramid, position, shapes)

        query_pos, query = query_embedding.split(pyramid.size(-1), dim=-1)
        batch = len(pyramid)
        reference_points = self.reference_points(query_pos).float().sigmoid()
        states, references = self.decoder(
            query.expand(batch, -1, -1),
            query_pos.expand(batch, -1, -1),
            memory,
            reference_points.expand(batch, -1, -1),
            shapes,
            reg_branches,
        )
        height, width = shapes[0]
        encoded = memory[:, : height * width].transpose(1, 2).unflatten(-1, (height, width))
        return encoded, states, references
