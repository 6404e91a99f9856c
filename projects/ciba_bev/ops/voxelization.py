"""Group points into voxels, in a fixed order, on any device.

The result equals that of mmcv's deterministic hard voxelization exactly. mmcv's CUDA kernel
compares every point with all points before it, and its CPU code fills a table of the whole grid;
here points are sorted by voxel on a GPU, and put into a hash table of their number on a CPU.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

import numpy as np
import torch
from mmdet3d.models.data_preprocessors.voxelize import VoxelizationByGridShape
from numpy.typing import NDArray
from torch import Tensor

from .constants import constant_tensor


class Voxels(NamedTuple):
    """Points by voxel; voxels in the order of their first points.

    Attributes:
        points: (M, max_points, features), dtype of the input, each voxel's points in their order,
            then zeros.
        coordinates: Cell of each voxel, (M, 3) int32 as (z, y, x).
        num_points: How many points each voxel holds, (M,) int32.
    """

    points: Tensor
    coordinates: Tensor
    num_points: Tensor


class Voxelization(VoxelizationByGridShape):
    """Voxelization layer of mmdet3d, computed by :func:`hard_voxelize`.

    A drop-in for the ``voxel_layer`` of mmdet3d's data preprocessor, with its arguments, except
    that the result never depends on ``deterministic``. Without caps (``max_num_points`` or
    ``max_voxels`` of -1) it is mmdet3d's.
    """

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor] | Tensor:
        """Return the :class:`Voxels` of a point cloud.

        Args:
            points: (N, features) of floats, x, y and z first, in metres in the LiDAR frame.

        Returns:
            The voxels; without caps only the voxel coordinates of each point, as mmdet3d does.
        """
        max_voxels = self.max_voxels[0 if self.training else 1]
        if self.max_num_points == -1 or max_voxels == -1:
            uncapped: Tensor = super().forward(points)
            return uncapped
        return hard_voxelize(
            points, self.voxel_size, self.point_cloud_range, self.max_num_points, max_voxels
        )


def hard_voxelize(
    points: Tensor,
    voxel_size: Sequence[float],
    point_cloud_range: Sequence[float],
    max_points: int,
    max_voxels: int,
) -> Voxels:
    """Group points into voxels of limited number and size.

    Points outside the range, or not finite, are dropped. Of a voxel the first ``max_points`` are
    kept, and of all voxels the ``max_voxels`` whose first points come earliest.

    Args:
        points: (N, features) of floats, x, y and z first, in metres.
        voxel_size: Along x, y and z, in metres.
        point_cloud_range: Lower and upper bounds, (x, y, z, x, y, z), in metres.
        max_points: Most points of a voxel.
        max_voxels: Most voxels.

    Returns:
        The voxels, on the device of ``points``; without gradients.
    """
    size = np.asarray(voxel_size, dtype=np.float32)
    bounds = np.asarray(point_cloud_range, dtype=np.float32)
    # Halves are rounded up, as by C's `round`, not to the even number.
    grid = [math.floor(cells + 0.5) for cells in ((bounds[3:] - bounds[:3]) / size).tolist()]
    voxelize = _by_table if points.device.type == 'cpu' else _by_sorting
    return voxelize(points.detach(), size, bounds[:3], grid, max_points, max_voxels)


def _by_table(
    points: Tensor,
    size: NDArray[np.float32],
    lower: NDArray[np.float32],
    grid: list[int],
    max_points: int,
    max_voxels: int,
) -> Voxels:
    from .voxelization_cpu import fill_voxels  # numba: a slow import

    # numba has no half precision.
    exact = points.to(torch.promote_types(points.dtype, torch.float32)).contiguous()
    limit = min(max_voxels, len(points))
    voxels = exact.new_zeros(limit, max_points, points.size(1))
    coordinates = torch.zeros(limit, 3, dtype=torch.int32)
    num_points = torch.zeros(limit, dtype=torch.int32)
    array = exact.numpy()
    lower, size, cells = (np.asarray(numbers, array.dtype) for numbers in (lower, size, grid))
    count = fill_voxels(
        array,
        lower,
        size,
        cells,
        voxels.numpy(),
        coordinates.numpy(),
        num_points.numpy(),
    )
    return Voxels(voxels[:count].to(points.dtype), coordinates[:count], num_points[:count])


def _by_sorting(
    points: Tensor,
    size: NDArray[np.float32],
    lower: NDArray[np.float32],
    grid: list[int],
    max_points: int,
    max_voxels: int,
) -> Voxels:
    """Sort the points by voxel; waits for the device once, to learn the number of voxels."""
    if not len(points):
        empty = torch.zeros(0, dtype=torch.int32, device=points.device)
        return Voxels(points.new_zeros(0, max_points, points.size(1)), empty.view(0, 3), empty)
    cell = _cells(points, size, lower, grid)
    outside = math.prod(grid)
    cell_sorted, order = cell.sort(stable=True)
    exists = cell_sorted < outside
    position = torch.arange(len(points), device=points.device)
    changes = cell_sorted[1:] != cell_sorted[:-1]
    border = changes.new_ones(1)
    opens, closes = torch.cat((border, changes)), torch.cat((changes, border))
    # Where in the sorted order the voxel of each point begins, and the point's position in it.
    start = torch.where(opens, position, 0).cummax(0).values
    slot = position - start
    # A stable sort puts the earliest point of a voxel first; voxels are numbered by those.
    is_first = torch.empty_like(opens)
    is_first[order] = opens & exists
    number = is_first.cumsum(0) - 1
    voxel = number[order[start]]
    count = min(int(number[-1]) + 1, max_voxels)

    # Dropped points go into one more row, which is removed.
    kept = exists & (voxel < count)
    target = torch.where(kept & (slot < max_points), voxel * max_points + slot, count * max_points)
    voxels = points.new_zeros(count * max_points + 1, points.size(1))
    voxels[target] = points[order]
    target = torch.where(kept & closes, voxel, count)
    cells = torch.zeros(count + 1, dtype=cell.dtype, device=points.device)
    cells[target] = cell_sorted
    num_points = torch.zeros(count + 1, dtype=torch.int32, device=points.device)
    num_points[target] = (slot + 1).clamp(max=max_points).int()

    z, yx = _divide(cells[:-1], grid[0] * grid[1])
    y, x = _divide(yx, grid[0])
    return Voxels(
        voxels[:-1].view(count, max_points, points.size(1)),
        torch.stack((z, y, x), dim=1).int(),
        num_points[:-1],
    )


def _cells(
    points: Tensor, size: NDArray[np.float32], lower: NDArray[np.float32], grid: list[int]
) -> Tensor:
    """Return the cell index of each point, x fastest; the number of cells if outside."""
    kind, device = torch.promote_types(points.dtype, torch.float32), points.device
    offset = points[:, :3].to(kind) - constant_tensor(tuple(lower.tolist()), kind, device)
    cell = torch.floor(offset / constant_tensor(tuple(size.tolist()), kind, device))
    # Compared as floats, which also excludes infinities and NaN.
    inside = ((cell >= 0) & (cell < constant_tensor(tuple(grid), kind, device))).all(1)
    outside = math.prod(grid)
    # Half as many bits take half as long to sort.
    cell = torch.where(inside.unsqueeze(1), cell, 0)
    cell = cell.to(torch.int32 if outside < 2**31 else torch.int64)
    number = (cell[:, 2] * grid[1] + cell[:, 1]) * grid[0] + cell[:, 0]
    return torch.where(inside, number, outside)


def _divide(numerator: Tensor, denominator: int) -> tuple[Tensor, Tensor]:
    quotient = torch.div(numerator, denominator, rounding_mode='floor')
    return quotient, numerator - quotient * denominator
