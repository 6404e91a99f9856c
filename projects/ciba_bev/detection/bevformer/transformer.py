"""The transformer of BEVFormer: encodes images into a BEV feature, and decodes object queries."""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...ops.transfers import to_device
from ..attention import MultiheadSelfAttention, PreciseLinear, initialize_transformer
from ..decoder import DecoderLayer, RefiningDecoder
from .encoder import BEVFormerEncoder, BEVFormerEncoderLayer
from .geometry import FrameGeometry, pack_visible
from .projection import bev_shift, pillar_points, project_points, rotate_bev

CAN_BUS_SIZE = 18
YAW_CHANGE_DEGREES = 17  # index in the CAN bus vector


class BEVFormerTransformer(nn.Module):
    """Encode camera images into a BEV feature, and decode object queries from it.

    Args:
        bev_shape: Height (y) and width (x) of the BEV grid.
        point_cloud_range: Range of the grid, metres, LiDAR frame.
        embed_dims: Channels.
        num_cams: Cameras.
        num_levels: Levels of the image features.
        num_heads: Heads of every attention.
        num_spatial_points: Samples per head and image level.
        num_heights: Points per pillar.
        num_temporal_points: Samples per head and BEV feature, in encoder and decoder.
        encoder_layers: Layers of the encoder.
        decoder_layers: Layers of the decoder.
        feedforward_channels: Hidden channels of the feed-forward parts.
        rotate_center: The cell (x, y) about which the previous BEV feature is rotated; None for
            the cell of the LiDAR.
        dropout: Dropout of all parts.
        with_cp: Activation checkpointing in the encoder.

    Raises:
        ConfigError: The number of points is not a multiple of the pillar heights.
    """

    def __init__(
        self,
        bev_shape: tuple[int, int],
        point_cloud_range: Sequence[float],
        embed_dims: int = 256,
        num_cams: int = 6,
        num_levels: int = 4,
        num_heads: int = 8,
        num_spatial_points: int = 8,
        num_heights: int = 4,
        num_temporal_points: int = 4,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        feedforward_channels: int = 512,
        rotate_center: Sequence[float] | None = None,
        dropout: float = 0.1,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        if num_spatial_points % num_heights:
            raise ConfigError(
                f'num_spatial_points {num_spatial_points} is not a multiple of the '
                f'{num_heights} pillar heights'
            )
        height, width = self.bev_shape = tuple(bev_shape)
        x_min, y_min, _, x_max, y_max, _ = point_cloud_range
        cell_x, cell_y = (x_max - x_min) / width, (y_max - y_min) / height
        if rotate_center is None:
            rotate_center = (-x_min / cell_x, -y_min / cell_y)
        self.rotate_center = tuple(rotate_center)
        # Plain tensors, which stay on the CPU, as the calibration does: see pack_visible.
        self.cell_size = torch.tensor((cell_x, cell_y))
        self.pillars = pillar_points(bev_shape, num_heights, point_cloud_range)
        self.register_buffer('cells', _cell_centres(height, width), persistent=False)
        self.encoder = BEVFormerEncoder(
            [
                BEVFormerEncoderLayer(
                    embed_dims,
                    num_heads,
                    num_levels,
                    num_temporal_points,
                    num_spatial_points,
                    feedforward_channels,
                    dropout,
                )
                for _ in range(encoder_layers)
            ],
            with_cp=with_cp,
        )
        self.decoder = RefiningDecoder(
            lambda: DecoderLayer(
                MultiheadSelfAttention(embed_dims, num_heads, dropout),
                embed_dims,
                num_heads,
                1,
                num_temporal_points,
                feedforward_channels,
                dropout,
            ),
            decoder_layers,
        )
        self.level_embeds = nn.Parameter(torch.empty(num_levels, embed_dims))
        self.cams_embeds = nn.Parameter(torch.empty(num_cams, embed_dims))
        self.reference_points = PreciseLinear(embed_dims, 3)
        self.can_bus_mlp = nn.Sequential(
            PreciseLinear(CAN_BUS_SIZE, embed_dims // 2),
            nn.ReLU(inplace=True),
            PreciseLinear(embed_dims // 2, embed_dims),
            nn.ReLU(inplace=True),
        )
        self.can_bus_mlp.add_module('norm', nn.LayerNorm(embed_dims))
        initialize_transformer(self)
        nn.init.normal_(self.level_embeds)
        nn.init.normal_(self.cams_embeds)
        nn.init.zeros_(self.reference_points.bias)

    def encode(
        self,
        image_levels: Sequence[Tensor],
        lidar2img: Tensor,
        image_shape: tuple[int, int],
        can_bus: Tensor,
        bev_queries: Tensor,
        bev_positions: Tensor,
        prev_bev: Tensor | None = None,
        has_previous: Tensor | None = None,
    ) -> Tensor:
        """Compute the BEV feature of one time step.

        Args:
            image_levels: Image features, each (B, cameras, C, h, w).
            lidar2img: (B, cameras, 4, 4), LiDAR-frame metres to pixels, on the CPU.
            image_shape: Height and width of the images in pixels, padding included.
            can_bus: (B, 18), motion since the previous frame, on the CPU; see
                :mod:`ciba_bev.detection.nuscenes.can_bus`.
            bev_queries: (H * W, C).
            bev_positions: (H * W, C).
            prev_bev: The previous BEV feature, (B, H * W, C), or None.
            has_previous: Samples with a previous frame, (B,) bool on the CPU; None for all.

        Returns:
            (B, H * W, C), row-major with row = y and column = x in the LiDAR frame.
        """
        batch, device = len(lidar2img), bev_queries.device
        motion = to_device(can_bus, device)
        queries = bev_queries + self.can_bus_mlp(motion.to(bev_queries.dtype)).unsqueeze(1)
        positions = bev_positions.expand(batch, -1, -1)
        shift = bev_shift(can_bus.float().cpu(), self.bev_shape, self.cell_size)
        if prev_bev is None:
            # Without a previous feature, the current one is read twice at the same positions.
            shift = torch.zeros_like(shift)
        else:
            if has_previous is None:
                has_previous = torch.ones(batch, dtype=torch.bool)
            shift = shift * has_previous.cpu().unsqueeze(1)
            has_previous = to_device(has_previous, device)
            prev_bev = self._turn(prev_bev, motion[:, YAW_CHANGE_DEGREES])
        image_features, image_shapes = self._flatten(image_levels)
        points, inside = project_points(self.pillars, lidar2img.cpu(), image_shape)
        before = self.cells + to_device(shift, device)[:, None]
        geometry = FrameGeometry(
            self.bev_shape,
            torch.stack((before, self.cells.expand_as(before)), dim=2),
            image_shapes,
            pack_visible(points, inside, device),
        )
        return self.encoder(queries, positions, prev_bev, has_previous, image_features, geometry)

    def decode(
        self, bev_embed: Tensor, query_embedding: Tensor, reg_branches: nn.ModuleList
    ) -> tuple[Tensor, Tensor]:
        """Decode object queries from a BEV feature.

        Args:
            bev_embed: (B, H * W, C).
            query_embedding: (Q, 2C), position and content.
            reg_branches: Box branches that refine the reference points.

        Returns:
            States (layers, B, Q, C) and reference points (layers, B, Q, 3).
        """
        batch = len(bev_embed)
        query_pos, query = query_embedding.split(bev_embed.size(-1), dim=-1)
        reference_points = self.reference_points(query_pos).float().sigmoid()
        return self.decoder(
            query.expand(batch, -1, -1),
            query_pos.expand(batch, -1, -1),
            bev_embed,
            reference_points.expand(batch, -1, -1),
            [self.bev_shape],
            reg_branches,
        )

    def _turn(self, prev_bev: Tensor, degrees: Tensor) -> Tensor:
        maps = prev_bev.transpose(1, 2).unflatten(-1, self.bev_shape)
        return rotate_bev(maps, degrees, self.rotate_center).flatten(2).transpose(1, 2)

    def _flatten(self, image_levels: Sequence[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
        """Flatten all levels to (B, cameras, S, C), and add camera and level embeddings."""
        shapes = [tuple(level.shape[-2:]) for level in image_levels]
        features = [
            level.flatten(3).transpose(2, 3)
            + self.cams_embeds[:, None].to(level.dtype)
            + level_embed.to(level.dtype)
            for level, level_embed in zip(image_levels, self.level_embeds)
        ]
        return torch.cat(features, dim=2), shapes


def _cell_centres(height: int, width: int) -> Tensor:
    """Return the centres of the BEV cells, (H * W, 2) as (x, y) in [0, 1], row-major."""
    y = (torch.arange(height, dtype=torch.float32) + 0.5) / height
    x = (torch.arange(width, dtype=torch.float32) + 0.5) / width
    grid_y, grid_x = torch.meshgrid(y, x, indexing='ij')
    return torch.stack((grid_x, grid_y), dim=-1).flatten(0, 1)
