"""Voxelization of CPU tensors: one compiled pass over the points and a hash table of voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

NONE = -1


@njit(nogil=True, cache=True, error_model='numpy')
def fill_voxels(
    points: NDArray[Any],
    lower: NDArray[Any],
    size: NDArray[Any],
    grid: NDArray[Any],
    voxels: NDArray[Any],
    coordinates: NDArray[Any],
    num_points: NDArray[Any],
) -> int:
    """Fill arrays of zeros with the voxels of a point cloud.

    Args:
        points: (N, features), x, y and z first.
        lower: Lower bounds of x, y and z, in the dtype of the points.
        size: Of a voxel along x, y and z, in the dtype of the points.
        grid: Number of cells along x, y and z, in the dtype of the points.
        voxels: (max_voxels, max_points, features).
        coordinates: (max_voxels, 3), as (z, y, x).
        num_points: (max_voxels,).

    Returns:
        The number of voxels.
    """
    max_voxels, max_points, features = voxels.shape
    cells = _cells(points, lower, size, grid)
    width, height = np.int64(grid[0]), np.int64(grid[1])
    # A power of two, at most half full, so that a look-up takes few steps.
    slots = 16
    shift = np.uint64(60)
    while slots < 2 * max_voxels:
        slots *= 2
        shift -= np.uint64(1)
    last_slot = np.uint64(slots - 1)
    keys = np.full(slots, NONE, dtype=np.int64)
    numbers = np.empty(slots, dtype=np.int32)
    count = 0
    for point in range(len(points)):
        cell = cells[point]
        if cell == NONE:
            continue
        # Fibonacci hashing: neighbouring cells are spread over the whole table.
        slot = (np.uint64(cell) * np.uint64(0x9E3779B97F4A7C15)) >> shift
        while keys[slot] != NONE and keys[slot] != cell:
            slot = (slot + np.uint64(1)) & last_slot
        if keys[slot] == NONE:
            if count == max_voxels:
                continue
            keys[slot] = cell
            numbers[slot] = count
            coordinates[count, 0] = cell // (width * height)
            coordinates[count, 1] = cell // width % height
            coordinates[count, 2] = cell % width
            count += 1
        # Unsigned, so that numba does not look for negative indices.
        voxel = np.uint64(numbers[slot])
        used = np.uint64(num_points[voxel])
        if used < np.uint64(max_points):
            for feature in range(features):
                voxels[voxel, used, feature] = points[point, feature]
            num_points[voxel] = np.int32(used) + 1
    return count


# No fast maths: a division that is rounded differently puts a point into another voxel.
@njit(nogil=True, cache=True, error_model='numpy')
def _cells(
    points: NDArray[Any], lower: NDArray[Any], size: NDArray[Any], grid: NDArray[Any]
) -> NDArray[Any]:
    """Return the cell of each point, x fastest, or NONE; without branches, to be vectorised."""
    cells = np.empty(len(points), dtype=np.int64)
    width, height = np.int64(grid[0]), np.int64(grid[1])
    for point in range(len(points)):
        x = np.floor((points[point, 0] - lower[0]) / size[0])
        y = np.floor((points[point, 1] - lower[1]) / size[1])
        z = np.floor((points[point, 2] - lower[2]) / size[2])
        # Compared as floats, which also leaves out infinities and NaN.
        inside = (x >= 0) & (x < grid[0]) & (y >= 0) & (y < grid[1]) & (z >= 0) & (z < grid[2])
        cell = (np.int64(z) * height + np.int64(y)) * width + np.int64(x)
        cells[point] = cell if inside else NONE
    return cells
