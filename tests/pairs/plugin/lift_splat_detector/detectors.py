"""Two detectors on the lifted map: from cameras alone, and from cameras and LiDAR."""

from __future__ import annotations

import copy

import numpy as np
import torch
from mmdet3d.models.detectors import Base3DDetector
from mmdet3d.structures import Det3DDataSample
from torch import Tensor, nn

from .lift_splat import BEVGrid, LiftSplat
from .registry import MODELS


@MODELS.register_module()
class LiftSplatDetector(Base3DDetector):
    """Camera detector: backbone, lift and splat, a small BEV encoder, any head on one map.

    Args:
        img_backbone: Config; its last output is lifted.
        img_channels: Of that output.
        bev_head: Config of mmdet3d's CenterHead or the like; its cells are those of the map.
        point_cloud_range: Of the BEV map, (x_min, y_min, z_min, x_max, y_max, z_max) in metres.
        bev_size: Its rows and columns.
        bev_channels: Its channels.
        depths: (first, last, count) of the depths told apart, metres.
        train_cfg: Of the head.
        test_cfg: Of the head.
        data_preprocessor: Config.
    """

    def __init__(
        self,
        img_backbone: dict,
        img_channels: int,
        bev_head: dict,
        point_cloud_range: list[float],
        bev_size: tuple[int, int],
        bev_channels: int = 16,
        depths: tuple[float, float, int] = (2.0, 50.0, 24),
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self.img_backbone = MODELS.build(img_backbone)
        self.view = LiftSplat(
            img_channels, bev_channels, BEVGrid(point_cloud_range, *bev_size), depths
        )
        self.bev_encoder = make_bev_encoder(bev_channels, bev_channels)
        x_min, y_min, _, x_max, y_max, _ = point_cloud_range
        rows, columns = bev_size
        cells = dict(
            voxel_size=[(x_max - x_min) / columns, (y_max - y_min) / rows], out_size_factor=1
        )
        head = copy.deepcopy(bev_head)
        head['bbox_coder'].update(cells, pc_range=[x_min, y_min])
        train_cfg = dict(
            train_cfg or {},
            **cells,
            grid_size=[columns, rows, 1],
            point_cloud_range=point_cloud_range,
        )
        test_cfg = dict(test_cfg or {}, **cells)
        self.bev_head = MODELS.build(dict(head, train_cfg=train_cfg, test_cfg=test_cfg))

    def extract_feat(
        self, batch_inputs_dict: dict, batch_data_samples: list[Det3DDataSample]
    ) -> Tensor:
        """The BEV map the head reads, (B, C, rows, columns)."""
        return self.bev_encoder(self.lift(batch_inputs_dict['imgs'], batch_data_samples))

    def lift(self, imgs: Tensor, batch_data_samples: list[Det3DDataSample]) -> Tensor:
        """BEV map of images (B, N, 3, H, W)."""
        features = self.img_backbone(imgs.flatten(0, 1))[-1].unflatten(0, imgs.shape[:2])
        matrices = [
            imgs.new_tensor(
                np.stack([as_4x4(sample.metainfo[name]) for sample in batch_data_samples])
            )
            for name in ('cam2img', 'lidar2cam')
        ]
        return self.view(features, imgs.shape[-2:], *matrices)

    def loss(
        self, batch_inputs_dict: dict, batch_data_samples: list[Det3DDataSample], **kwargs
    ) -> dict[str, Tensor]:
        bev = self.extract_feat(batch_inputs_dict, batch_data_samples)
        return self.bev_head.loss([bev], batch_data_samples)

    def predict(
        self, batch_inputs_dict: dict, batch_data_samples: list[Det3DDataSample], **kwargs
    ) -> list[Det3DDataSample]:
        bev = self.extract_feat(batch_inputs_dict, batch_data_samples)
        results = self.bev_head.predict([bev], batch_data_samples)
        return self.add_pred_to_datasample(batch_data_samples, results)

    def _forward(
        self, batch_inputs_dict: dict, batch_data_samples: list[Det3DDataSample], **kwargs
    ):
        return self.bev_head([self.extract_feat(batch_inputs_dict, batch_data_samples)])


@MODELS.register_module()
class CameraLidarDetector(LiftSplatDetector):
    """The same with the map of LiDAR pillars beside the camera's.

    Args:
        pts_voxel_encoder: Config of a pillar encoder.
        pts_middle_encoder: Config of what scatters pillars on the camera map's grid.
        pts_channels: Of the pillars.
        kwargs: As for :class:`LiftSplatDetector`.
    """

    def __init__(
        self,
        pts_voxel_encoder: dict,
        pts_middle_encoder: dict,
        pts_channels: int,
        bev_channels: int = 16,
        **kwargs,
    ) -> None:
        super().__init__(bev_channels=bev_channels, **kwargs)
        self.pts_voxel_encoder = MODELS.build(pts_voxel_encoder)
        self.pts_middle_encoder = MODELS.build(pts_middle_encoder)
        self.bev_encoder = make_bev_encoder(bev_channels + pts_channels, bev_channels)

    def extract_feat(
        self, batch_inputs_dict: dict, batch_data_samples: list[Det3DDataSample]
    ) -> Tensor:
        """The fused BEV map, (B, C, rows, columns)."""
        camera_bev = self.lift(batch_inputs_dict['imgs'], batch_data_samples)
        voxels = batch_inputs_dict['voxels']
        pillars = self.pts_voxel_encoder(voxels['voxels'], voxels['num_points'], voxels['coors'])
        lidar_bev = self.pts_middle_encoder(pillars, voxels['coors'], len(batch_data_samples))
        return self.bev_encoder(torch.cat((camera_bev, lidar_bev), dim=1))


def make_bev_encoder(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two convolutions with normalisation, the same size in and out."""
    layers = []
    for channels in (in_channels, out_channels):
        layers += [
            nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def as_4x4(matrices: list) -> np.ndarray:
    """Camera matrices (N, 3 or 4, 3 or 4) as (N, 4, 4)."""
    full = np.tile(np.eye(4, dtype=np.float32), (len(matrices), 1, 1))
    for target, matrix in zip(full, np.asarray(matrices, dtype=np.float32)):
        target[: matrix.shape[0], : matrix.shape[1]] = matrix
    return full
