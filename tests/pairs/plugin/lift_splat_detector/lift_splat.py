"""Image features lifted along their rays and summed in the cells of a BEV map."""

from __future__ import annotations

from typing import NamedTuple, Sequence

import torch
from torch import Tensor, nn


class BEVGrid(NamedTuple):
    """A map of the ground in the LiDAR frame, rows along y and columns along x.

    Attributes:
        bounds: (x_min, y_min, z_min, x_max, y_max, z_max) in metres; points outside are dropped.
        rows: Cells along y.
        columns: Cells along x.
    """

    bounds: Sequence[float]
    rows: int
    columns: int

    def cells(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Which cell each point is in.

        Args:
            points: (..., 3), metres.

        Returns:
            Row-major cell numbers (...), and whether the point is inside (...).
        """
        low, high = points.new_tensor(self.bounds).view(2, 3)
        inside = ((points >= low) & (points < high)).all(-1)
        place = (points - low) / (high - low)
        column = (place[..., 0] * self.columns).long()
        row = (place[..., 1] * self.rows).long()
        return row * self.columns + column, inside


class LiftSplat(nn.Module):
    """Every pixel spreads its context along its ray, by how likely each depth is.

    Args:
        in_channels: Of the image features.
        out_channels: Of the BEV map.
        grid: The map.
        depths: (first, last, count) of the depths that are told apart, metres along the optical
            axis.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: BEVGrid,
        depths: tuple[float, float, int] = (2.0, 50.0, 24),
    ) -> None:
        super().__init__()
        self.grid = grid
        self.out_channels = out_channels
        self.register_buffer('depths', torch.linspace(*depths[:2], int(depths[2])))
        self.predict_depth_and_context = nn.Conv2d(
            in_channels, len(self.depths) + out_channels, kernel_size=1
        )

    def forward(
        self, features: Tensor, image_size: tuple[int, int], cam2img: Tensor, lidar2cam: Tensor
    ) -> Tensor:
        """Image features to BEV map.

        Args:
            features: (B, N, C', h, w) of N cameras.
            image_size: Height and width of the padded images, in the pixels of ``cam2img``.
            cam2img: (B, N, 4, 4), from camera frame to pixels.
            lidar2cam: (B, N, 4, 4), from LiDAR frame to camera frame.

        Returns:
            (B, C, rows, columns).
        """
        batch, cameras, _, height, width = features.shape
        prediction = self.predict_depth_and_context(features.flatten(0, 1))
        prediction = prediction.unflatten(0, (batch, cameras))
        depth, context = prediction.split((len(self.depths), self.out_channels), dim=2)
        # (B, N, D, 1, h, w) times (B, N, 1, C, h, w)
        lifted = depth.softmax(2).unsqueeze(3) * context.unsqueeze(2)

        points = self._points((height, width), image_size, cam2img, lidar2cam)
        cells, inside = self.grid.cells(points)
        cell_count = self.grid.rows * self.grid.columns
        sample = torch.arange(batch, device=cells.device).view(-1, 1, 1, 1, 1)
        cells = (cells + sample * cell_count)[inside]
        values = lifted.movedim(3, -1)[inside]
        bev = values.new_zeros(batch * cell_count, self.out_channels).index_add(0, cells, values)
        bev = bev.view(batch, self.grid.rows, self.grid.columns, self.out_channels)
        return bev.permute(0, 3, 1, 2).contiguous()

    def _points(
        self,
        feature_size: tuple[int, int],
        image_size: tuple[int, int],
        cam2img: Tensor,
        lidar2cam: Tensor,
    ) -> Tensor:
        """Places in the LiDAR frame of every feature at every depth, (B, N, D, h, w, 3)."""
        axes = [
            (torch.arange(count, device=cam2img.device) + 0.5) * (size / count)
            for count, size in zip(feature_size, image_size)
        ]
        depth, v, u = torch.meshgrid(self.depths, *axes, indexing='ij')
        pixels = torch.stack((u * depth, v * depth, depth, torch.ones_like(depth)), dim=-1)
        img2lidar = torch.linalg.inv(cam2img @ lidar2cam)
        return torch.einsum('bnij,dhwj->bndhwi', img2lidar, pixels)[..., :3]
