"""Weights of a BEV grid for distilling objects ("MSE w/ GT", Table 2)."""

from __future__ import annotations

from typing import Sequence

import torch
from mmdet3d.models.utils import draw_heatmap_gaussian, gaussian_radius
from mmdet3d.structures import Det3DDataSample
from torch import Tensor

from ..registry import TASK_UTILS


@TASK_UTILS.register_module()
class GaussianForeground:
    """A Gaussian at the centre of every annotated box; their maximum where they overlap.

    Args:
        point_cloud_range: Range of the grid, (x_min, y_min, z_min, x_max, y_max, z_max) in metres,
            LiDAR frame.
        min_overlap: IoU that determines the radius of a Gaussian: a box shifted by the radius has
            at least this overlap with the original one.
        min_radius: Minimum radius in cells.
    """

    def __init__(
        self,
        point_cloud_range: Sequence[float] = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0),
        min_overlap: float = 0.1,
        min_radius: int = 1,
    ) -> None:
        self.point_cloud_range = tuple(point_cloud_range)
        self.min_overlap = min_overlap
        self.min_radius = min_radius

    def __call__(self, data_samples: Sequence[Det3DDataSample], grid: Sequence[int]) -> Tensor:
        """Draw the weights of a batch.

        Args:
            data_samples: Data samples with ``gt_instances_3d.bboxes_3d``, metres, LiDAR frame.
            grid: Number of rows (y) and columns (x).

        Returns:
            (B, 1, rows, columns), float32, from 0 to 1.
        """
        return torch.stack([self._draw(sample, grid) for sample in data_samples]).unsqueeze(1)

    def _draw(self, sample: Det3DDataSample, grid: Sequence[int]) -> Tensor:
        rows, columns = grid
        x_min, y_min, _, x_max, y_max, _ = self.point_cloud_range
        boxes = sample.gt_instances_3d.bboxes_3d
        cells = boxes.tensor.new_tensor([(x_max - x_min) / columns, (y_max - y_min) / rows])
        origin = boxes.tensor.new_tensor([x_min, y_min])
        weight = boxes.tensor.new_zeros(rows, columns)
        centres = ((boxes.gravity_center[:, :2] - origin) / cells).floor().int()
        # Length and width in cells, ignoring the yaw, which hardly changes the radius.
        sizes = boxes.dims[:, :2] / cells
        for centre, (length, width) in zip(centres, sizes):
            if not (0 <= centre[0] < columns and 0 <= centre[1] < rows):
                continue
            radius = int(gaussian_radius((length, width), min_overlap=self.min_overlap))
            draw_heatmap_gaussian(weight, centre, max(self.min_radius, radius))
        return weight
