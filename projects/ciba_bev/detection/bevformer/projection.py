"""Project BEV pillars into the cameras, and align BEV features with the motion of the vehicle."""

from __future__ import annotations

import math
from typing import Sequence

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from ...errors import ConfigError
from ...ops.constants import constant_tensor
from ...precision import at_least_single

MIN_DEPTH = 1e-5  # metres in front of the camera plane


def lidar2img_matrices(metainfo: dict) -> np.ndarray:
    """Return the projection matrices of a sample's cameras.

    Args:
        metainfo: mmdet3d's ``cam2img`` (3 x 3 or 4 x 4 each) and ``lidar2cam`` (4 x 4 each), both
            after all image augmentation.

    Returns:
        (cameras, 4, 4) float64: LiDAR-frame metres to (u * depth, v * depth, depth, 1), pixels of
        the image as the network sees it.

    Raises:
        ConfigError: A calibration is missing; the message names the sample.
    """
    for key in ('cam2img', 'lidar2cam'):
        if key not in metainfo:
            raise ConfigError(
                f'sample {metainfo.get("token", metainfo.get("sample_idx", "?"))} has no {key!r} '
                f'in its metainfo; add {key!r} to the meta_keys of Pack3DDetInputs'
            )
    matrices = []
    for cam2img, lidar2cam in zip(metainfo['cam2img'], metainfo['lidar2cam']):
        cam2img = np.asarray(cam2img, dtype=np.float64)
        intrinsic = np.eye(4)
        intrinsic[: cam2img.shape[0], : cam2img.shape[1]] = cam2img
        matrices.append(intrinsic @ np.asarray(lidar2cam, dtype=np.float64))
    return np.stack(matrices)


def pillar_points(
    bev_shape: tuple[int, int],
    num_heights: int,
    point_cloud_range: Sequence[float],
    device: torch.device | str = 'cpu',
) -> Tensor:
    """Return reference points along the pillar of each BEV cell (BEVFormer, Sec. 3.3).

    The heights are evenly spaced from half a metre above the floor of the range to half a metre
    below its ceiling.

    Args:
        bev_shape: Height (y) and width (x) of the grid.
        num_heights: Points per pillar.
        point_cloud_range: (x_min, y_min, z_min, x_max, y_max, z_max), metres, LiDAR frame.
        device: Device of the result.

    Returns:
        (H * W, heights, 3) metres, LiDAR frame, float32; cells row-major, row = y.
    """
    height, width = bev_shape
    x_min, y_min, z_min, x_max, y_max, z_max = point_cloud_range
    x = torch.linspace(0.5, width - 0.5, width, device=device) / width
    y = torch.linspace(0.5, height - 0.5, height, device=device) / height
    depth = z_max - z_min
    z = torch.linspace(0.5, depth - 0.5, num_heights, device=device) / depth
    grid_y, grid_x, grid_z = torch.meshgrid(y, x, z, indexing='ij')
    lower = torch.tensor((x_min, y_min, z_min), device=device)
    upper = torch.tensor((x_max, y_max, z_max), device=device)
    points = torch.stack((grid_x, grid_y, grid_z), dim=-1) * (upper - lower) + lower
    return points.flatten(0, 1)


def project_points(
    points: Tensor, lidar2img: Tensor, image_shape: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Project LiDAR-frame points into every camera.

    Args:
        points: (Q, heights, 3), metres.
        lidar2img: (B, cameras, 4, 4).
        image_shape: Height and width of the images in pixels, padding included.

    Returns:
        Image points (B, cameras, Q, heights, 2) as (x, y), (0, 0) the upper left and (1, 1) the
        lower right corner of the image; and whether each lies inside the image and before the
        camera, (B, cameras, Q, heights) bool.
    """
    with torch.autocast(device_type=points.device.type, enabled=False):
        homogeneous = functional.pad(points, (0, 1), value=1.0)
        projected = torch.einsum('bnij,qhj->bnqhi', lidar2img.float(), homogeneous)
    depth = projected[..., 2:3]
    height, width = image_shape
    pixels = projected[..., :2] / depth.clamp(min=MIN_DEPTH)
    normalized = pixels / constant_tensor((width, height), pixels.dtype, pixels.device)
    inside = ((normalized > 0) & (normalized < 1)).all(-1) & (depth[..., 0] > MIN_DEPTH)
    return normalized, inside


def bev_shift(can_bus: Tensor, bev_shape: tuple[int, int], cell_size: Tensor) -> Tensor:
    """Return the translation of the vehicle since the previous frame, relative to the BEV grid.

    Args:
        can_bus: (B, 18): [0:2] translation in global axes, metres; [16] yaw, radians.
        bev_shape: Height and width of the grid.
        cell_size: (2,), metres per cell along (x, y).

    Returns:
        (B, 2) as (x, y), fractions of the grid's width and height.
    """
    translation = can_bus[:, :2]
    length = translation.norm(dim=-1)
    # Direction of travel against the vehicle's heading; forward is +y in the LiDAR frame.
    angle = can_bus[:, 16] - torch.atan2(translation[:, 1], translation[:, 0])
    height, width = bev_shape
    moved = torch.stack((length * angle.sin(), length * angle.cos()), dim=-1)
    return moved / (cell_size * constant_tensor((width, height), cell_size.dtype, cell_size.device))


def rotate_bev(bev: Tensor, degrees: Tensor, center: Sequence[float]) -> Tensor:
    """Rotate BEV features counter-clockwise as images (row 0 at the top), nearest neighbour.

    Args:
        bev: (B, C, H, W).
        degrees: (B,).
        center: The cell (x, y) of the rotation axis.

    Returns:
        (B, C, H, W), padded with zeros.
    """
    height, width = bev.shape[-2:]
    radians = degrees.double() * (math.pi / 180.0)
    cosine, sine = radians.cos()[:, None, None], radians.sin()[:, None, None]
    x = torch.arange(width, device=bev.device, dtype=torch.float64) + 0.5 - center[0]
    y = torch.arange(height, device=bev.device, dtype=torch.float64) + 0.5 - center[1]
    y, x = torch.meshgrid(y, x, indexing='ij')
    source_x = cosine * x - sine * y + center[0]
    source_y = sine * x + cosine * y + center[1]
    grid = torch.stack((source_x * (2.0 / width) - 1, source_y * (2.0 / height) - 1), dim=-1)
    # Positions in half precision would miss cells.
    values = at_least_single(bev)
    turned = functional.grid_sample(
        values, grid.to(values.dtype), mode='nearest', padding_mode='zeros', align_corners=False
    )
    return turned.to(bev.dtype)
