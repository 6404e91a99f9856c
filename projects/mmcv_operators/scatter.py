"""Features of points into features of voxels, and gradients back to the points."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .arrays import compiled, to_array, uses_loops


def dynamic_point_to_voxel_forward(feats: Tensor, coors: Tensor, reduce_type: str) -> list[Tensor]:
    """Reduce the features of the points of each voxel.

    Args:
        feats: (N, C).
        coors: The cell of each point, int32 (N, axes); points with a negative coordinate are left
            out.
        reduce_type: ``'max'``, ``'sum'`` or ``'mean'``.

    Returns:
        Features of the voxels (M, C), their cells (M, axes) in ascending order, the voxel of each
        point, int32 (N,), with -1 for one left out, and the number of points of each voxel, int32
        (M,).

    Raises:
        ValueError: There is no such reduction.
    """
    if reduce_type not in ('max', 'sum', 'mean'):
        raise ValueError(f"there is no reduce_type {reduce_type!r}; there are 'max', 'sum', 'mean'")
    if len(feats) == 0:
        nothing = coors.new_empty(0, dtype=torch.int32)
        return [feats.clone(), coors.clone(), nothing, nothing.clone()]
    valid = (coors >= 0).all(1)
    cell, limits = _number_cells(coors)
    cell, voxel, count = torch.unique(
        torch.where(valid, cell, -1), return_inverse=True, return_counts=True
    )
    if cell[0] < 0:
        cell, voxel, count = cell[1:], voxel - 1, count[1:]
    voxel_feats = _reduce(feats, voxel, len(cell), reduce_type == 'max')
    if reduce_type == 'mean':
        voxel_feats /= count[:, None]
    axes = []
    for limit in reversed(limits):
        axes.append(cell % limit)
        cell = cell // limit
    return [voxel_feats, torch.stack(axes[::-1], 1).to(coors.dtype), voxel.int(), count.int()]


def dynamic_point_to_voxel_backward(
    grad_feats: Tensor,
    grad_reduced_feats: Tensor,
    feats: Tensor,
    reduced_feats: Tensor,
    coors_idx: Tensor,
    reduce_count: Tensor,
    reduce_type: str,
) -> None:
    """Hand the gradients of voxels back to their points.

    Args:
        grad_feats: (N, C), filled with the gradient of ``feats``.
        grad_reduced_feats: The gradient of ``reduced_feats``, (M, C).
        feats: Features of the points, (N, C).
        reduced_feats: Features of the voxels, (M, C).
        coors_idx: The voxel of each point, int32 (N,); -1 for a point without one.
        reduce_count: The number of points of each voxel, int32 (M,).
        reduce_type: ``'max'``, ``'sum'`` or ``'mean'``. Of the points that share a maximum, the
            first one gets the gradient.
    """
    grad_feats.zero_()
    if len(feats) == 0 or len(reduced_feats) == 0:
        return
    voxel = coors_idx.long()
    if reduce_type != 'max':
        if reduce_type == 'mean':
            grad_reduced_feats = grad_reduced_feats / reduce_count[:, None]
        outside = (voxel < 0)[:, None]
        grad_feats.copy_(grad_reduced_feats[voxel.clamp(min=0)].masked_fill_(outside, 0))
        return
    if uses_loops(feats):
        arrays = (to_array(tensor) for tensor in (feats, reduced_feats, grad_reduced_feats))
        gradient = np.zeros(feats.shape, dtype=to_array(feats[:0]).dtype)
        _to_first_maxima(*arrays, to_array(coors_idx), gradient)
        grad_feats.copy_(torch.from_numpy(gradient))
        return
    grad_feats.copy_(_to_first_maxima_of_tensors(feats, reduced_feats, grad_reduced_feats, voxel))


def _number_cells(coors: Tensor) -> tuple[Tensor, list[int]]:
    """Return a number for each cell, ascending as the cells do, and the cells along each axis.

    Raises:
        ValueError: There are more numbers than an int64 holds.
    """
    limits = (coors.max(0).values + 1).clamp(min=1).tolist()
    if math.prod(limits) >= 2**63:
        raise ValueError(f'a grid of {limits} cells is too large')
    cell = coors.new_zeros(len(coors), dtype=torch.long)
    for axis, limit in enumerate(limits):
        cell = cell * limit + coors[:, axis]
    return cell, limits


def _reduce(feats: Tensor, voxel: Tensor, num_voxels: int, largest: bool) -> Tensor:
    """Return the sums or maxima (M, C) of the features (N, C) of each voxel, -1 being none."""
    if not uses_loops(feats):
        return _reduce_tensors(feats, voxel, num_voxels, largest)
    values = to_array(feats)
    result = np.full((num_voxels, values.shape[1]), -np.inf if largest else 0, dtype=values.dtype)
    _reduce_arrays(values, voxel.numpy(), largest, result)
    return torch.from_numpy(result).to(feats.dtype)


@compiled()
def _reduce_arrays(feats: np.ndarray, voxel: np.ndarray, largest: bool, result: np.ndarray) -> None:
    for point in range(len(feats)):
        row = voxel[point]
        if row < 0:
            continue
        for channel in range(feats.shape[1]):
            value = feats[point, channel]
            if largest:
                result[row, channel] = max(result[row, channel], value)
            else:
                result[row, channel] += value


def _reduce_tensors(feats: Tensor, voxel: Tensor, num_voxels: int, largest: bool) -> Tensor:
    # A row more takes the points without a voxel.
    row = torch.where(voxel < 0, num_voxels, voxel)
    result = feats.new_zeros(num_voxels + 1, feats.size(1))
    if largest:
        row = row[:, None].expand_as(feats)
        result.scatter_reduce_(0, row, feats, 'amax', include_self=False)
    else:
        result.index_add_(0, row, feats)
    return result[:-1]


@compiled()
def _to_first_maxima(
    feats: np.ndarray,
    reduced_feats: np.ndarray,
    grad_reduced_feats: np.ndarray,
    voxel: np.ndarray,
    gradient: np.ndarray,
) -> None:
    found = np.zeros(reduced_feats.shape, dtype=np.bool_)
    for point in range(len(feats)):
        row = voxel[point]
        if row < 0:
            continue
        for channel in range(feats.shape[1]):
            if feats[point, channel] == reduced_feats[row, channel] and not found[row, channel]:
                found[row, channel] = True
                gradient[point, channel] = grad_reduced_feats[row, channel]


def _to_first_maxima_of_tensors(
    feats: Tensor, reduced_feats: Tensor, grad_reduced_feats: Tensor, voxel: Tensor
) -> Tensor:
    outside = voxel < 0
    is_maximum = (feats == reduced_feats[voxel.clamp(min=0)]) & ~outside[:, None]
    # One point too many takes the gradients of voxels without a maximum, all being NaN.
    position = torch.arange(len(feats), device=feats.device)[:, None]
    origin = torch.where(is_maximum, position, len(feats))
    row = torch.where(outside, len(reduced_feats), voxel)[:, None].expand_as(feats)
    first = origin.new_full((len(reduced_feats) + 1, feats.size(1)), len(feats))
    first.scatter_reduce_(0, row, origin, 'amin')
    gradient = feats.new_zeros(len(feats) + 1, feats.size(1))
    return gradient.scatter_(0, first[:-1], grad_reduced_feats)[:-1]
