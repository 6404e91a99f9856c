"""Points into voxels: which cell each point lies in, and the points of each cell, capped.

Voxels are numbered in the order in which their first points come, and keep their first points: the
result of mmcv's deterministic operator, bit for bit, on every device.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .arrays import compiled, to_array, uses_loops


def dynamic_voxelize_forward(
    points: Tensor,
    voxel_size: Tensor,
    coors_range: Tensor,
    coors: Tensor,
    NDim: int = 3,  # noqa: N803 (mmcv's name)
) -> None:
    """Find the voxel of each point.

    Args:
        points: (N, C), x, y and z first.
        voxel_size: Edges of a voxel in x, y and z, (3,), in the unit of the points; on the CPU.
        coors_range: Lower, then upper bounds of x, y and z, (6,); on the CPU.
        coors: Filled with the cell of each point as (z, y, x), int32 (N, 3); (-1, -1, -1) for a
            point outside of the range.
        NDim: 3, the number of axes.
    """
    grid = _grid_size(voxel_size, coors_range, NDim)
    if uses_loops(points):
        arrays = to_array(points), to_array(coors_range[:NDim]), to_array(voxel_size)
        _cells(*arrays, np.array(grid), coors.numpy())
        return
    cells, inside = _cells_of_tensor(points, voxel_size, coors_range, grid)
    coors.copy_(torch.where(inside[:, None], cells.flip(1), -1))


def hard_voxelize_forward(
    points: Tensor,
    voxel_size: Tensor,
    coors_range: Tensor,
    voxels: Tensor,
    coors: Tensor,
    num_points_per_voxel: Tensor,
    voxel_num: Tensor,
    max_points: int,
    max_voxels: int,
    NDim: int = 3,  # noqa: N803 (mmcv's name)
    deterministic: bool = True,
) -> None:
    """Collect the points of each voxel.

    Args:
        points: (N, C), x, y and z first.
        voxel_size: Edges of a voxel in x, y and z, (3,), in the unit of the points; on the CPU.
        coors_range: Lower, then upper bounds of x, y and z, (6,); on the CPU.
        voxels: Zeros, (max_voxels, max_points, C); filled with the points of each voxel.
        coors: Filled with the cell of each voxel as (z, y, x), int32 (max_voxels, 3).
        num_points_per_voxel: Zeros, int32 (max_voxels,); filled with the number of points kept.
        voxel_num: Filled with the number of voxels, int64 without dimensions.
        max_points: Points that a voxel keeps, the first ones; -1 for all that ``voxels`` holds.
        max_voxels: Voxels that are kept, the first ones; -1 for all that ``voxels`` holds.
        NDim: 3, the number of axes.
        deterministic: Without effect, as the result is always mmcv's deterministic one.
    """
    grid = _grid_size(voxel_size, coors_range, NDim)
    max_points = voxels.size(1) if max_points == -1 else max_points
    max_voxels = voxels.size(0) if max_voxels == -1 else max_voxels
    if not uses_loops(points):
        _voxelize_by_sorting(
            *(points, voxel_size, coors_range, grid),
            *(voxels, coors, num_points_per_voxel, voxel_num, max_points, max_voxels),
        )
        return
    values = to_array(points)
    collected = voxels.float() if voxels.element_size() == 2 else voxels  # NumPy's types only
    # A hash table of at least twice as many slots as points; a small grid needs no more slots
    # than cells.
    bits = max(2 * len(values) - 1, 1).bit_length()
    bits = min(bits, max(math.prod(grid) - 1, 1).bit_length())
    found = _voxelize(
        *(values, to_array(coors_range[:NDim]), to_array(voxel_size), np.array(grid), bits),
        *(collected.numpy(), coors.numpy(), num_points_per_voxel.numpy(), max_points, max_voxels),
    )
    if collected is not voxels:
        voxels.copy_(collected)
    voxel_num.fill_(found)


def _grid_size(voxel_size: Tensor, coors_range: Tensor, num_axes: int) -> list[int]:
    """Return the number of cells along x, y and z, halves rounded up as C does."""
    bounds = to_array(coors_range)
    cells = (bounds[num_axes:] - bounds[:num_axes]) / to_array(voxel_size)
    return [math.floor(count + 0.5) for count in cells.tolist()]


@compiled()
def _columns(
    points: np.ndarray, lowest: np.ndarray, size: np.ndarray, grid: np.ndarray
) -> np.ndarray:
    """Return the cell of each point as int32 (3, N): x, y and z, each -1 for a point outside.

    Coordinates of one axis lie together, so that the processor divides several at once.
    """
    x, y, z = points[:, 0].copy(), points[:, 1].copy(), points[:, 2].copy()
    width, height = points.dtype.type(grid[0]), points.dtype.type(grid[1])
    depth = points.dtype.type(grid[2])
    columns = np.empty((3, len(points)), dtype=np.int32)
    for i in range(len(points)):
        column = np.floor((x[i] - lowest[0]) / size[0])
        row = np.floor((y[i] - lowest[1]) / size[1])
        layer = np.floor((z[i] - lowest[2]) / size[2])
        inside = (
            ((column >= 0) & (column < width))
            & ((row >= 0) & (row < height))
            & ((layer >= 0) & (layer < depth))
        )
        columns[0, i] = np.int32(column) if inside else -1
        columns[1, i] = np.int32(row) if inside else -1
        columns[2, i] = np.int32(layer) if inside else -1
    return columns


@compiled()
def _cells(
    points: np.ndarray,
    lowest: np.ndarray,
    size: np.ndarray,
    grid: np.ndarray,
    coors: np.ndarray,
) -> None:
    columns = _columns(points, lowest, size, grid)
    for i in range(len(points)):
        coors[i, 0], coors[i, 1], coors[i, 2] = columns[2, i], columns[1, i], columns[0, i]


@compiled()
def _voxelize(
    points: np.ndarray,
    lowest: np.ndarray,
    size: np.ndarray,
    grid: np.ndarray,
    bits: int,
    voxels: np.ndarray,
    coors: np.ndarray,
    counts: np.ndarray,
    max_points: int,
    max_voxels: int,
) -> int:
    """Fill ``voxels``, ``coors`` and ``counts``; return the number of voxels."""
    direct = grid[0] * grid[1] * grid[2] <= 1 << bits
    table_voxel = np.full(1 << bits, -1, dtype=np.int32)
    table_cell = np.empty(1 if direct else 1 << bits, dtype=np.int64)
    shift = np.uint64(64 - bits)
    num_voxels = 0
    columns = _columns(points, lowest, size, grid)
    for i in range(len(points)):
        x, y, z = columns[0, i], columns[1, i], columns[2, i]
        if x < 0:
            continue
        cell = (z * grid[1] + y) * grid[0] + x
        if direct:
            slot = cell
        else:
            # Fibonacci hashing, then linear probing.
            slot = np.int64((np.uint64(cell) * np.uint64(0x9E3779B97F4A7C15)) >> shift)
            while table_voxel[slot] >= 0 and table_cell[slot] != cell:
                slot = (slot + 1) & ((1 << bits) - 1)
        voxel = table_voxel[slot]
        if voxel < 0:
            if num_voxels >= max_voxels:
                continue
            voxel = num_voxels
            num_voxels += 1
            table_voxel[slot] = voxel
            if not direct:
                table_cell[slot] = cell
            coors[voxel, 0], coors[voxel, 1], coors[voxel, 2] = z, y, x
        count = counts[voxel]
        if count < max_points:
            # The three that each point has, and a loop for the rest: a loop of five is slower.
            voxels[voxel, count, 0] = points[i, 0]
            voxels[voxel, count, 1] = points[i, 1]
            voxels[voxel, count, 2] = points[i, 2]
            for channel in range(3, points.shape[1]):
                voxels[voxel, count, channel] = points[i, channel]
            counts[voxel] = count + 1
    return num_voxels


def _cells_of_tensor(
    points: Tensor, voxel_size: Tensor, coors_range: Tensor, grid: list[int]
) -> tuple[Tensor, Tensor]:
    """Return the cell of each point as (x, y, z), int64 (N, 3), and which points lie inside."""
    # Divided by a tensor on the points' device: a number would be multiplied by its reciprocal.
    lowest, size, counts = torch.stack(
        (coors_range[: len(grid)], voxel_size, voxel_size.new_tensor(grid))
    ).to(points.device, non_blocking=True)
    cells = torch.floor((points[:, : len(grid)] - lowest) / size)
    inside = ((cells >= 0) & (cells < counts)).all(1)
    return torch.where(inside[:, None], cells, 0).long(), inside


def _voxelize_by_sorting(
    points: Tensor,
    voxel_size: Tensor,
    coors_range: Tensor,
    grid: list[int],
    voxels: Tensor,
    coors: Tensor,
    num_points_per_voxel: Tensor,
    voxel_num: Tensor,
    max_points: int,
    max_voxels: int,
) -> None:
    cells, inside = _cells_of_tensor(points, voxel_size, coors_range, grid)
    cell = (cells[:, 2] * grid[1] + cells[:, 1]) * grid[0] + cells[:, 0]
    # Points outside come last. A stable sort keeps the points of a cell in their order.
    cell, source = torch.where(inside, cell, grid[0] * grid[1] * grid[2]).sort(stable=True)
    inside = inside[source]
    begins = inside.clone()
    begins[1:] &= cell[1:] != cell[:-1]
    starts = begins.nonzero()[:, 0]
    # Voxels in the order of their first points.
    by_first_point = source[starts].argsort()
    rank = torch.empty_like(by_first_point)
    rank[by_first_point] = torch.arange(len(starts), device=rank.device)
    segment = begins.cumsum(0) - 1
    position = torch.arange(len(cell), device=cell.device)
    if len(starts) > 0:
        kept = (
            inside
            & (rank[segment.clamp(min=0)] < max_voxels)
            & (position - starts[segment.clamp(min=0)] < max_points)
        ).nonzero()[:, 0]
        segment, position = segment[kept], position[kept]
        voxels[rank[segment], position - starts[segment]] = points[source[kept]].to(voxels.dtype)
        ends = torch.cat((starts[1:], inside.sum().view(1)))
        first = by_first_point[:max_voxels]
        coors[: len(first)] = cells[source[starts[first]]].flip(1).to(coors.dtype)
        num_points_per_voxel[: len(first)] = (
            (ends - starts)[first].clamp(max=max_points).to(num_points_per_voxel.dtype)
        )
    voxel_num.fill_(min(len(starts), max_voxels))
