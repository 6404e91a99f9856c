"""Convolve the occupied cells of a grid, and no others, on any device.

The classes have the names, the arguments and the kernel layout of spconv 2, as far as encoders of
voxels need them. PyTorch's operators compute them, forwards and backwards; on a GPU
:func:`find_implementation` prefers a package that is made for it.
"""

from __future__ import annotations

import importlib
import math
import sys
from contextlib import suppress
from itertools import product
from types import ModuleType
from typing import Any, NamedTuple, Sequence, Union

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .constants import constant_tensor

Size = Union[int, Sequence[int]]


def find_implementation() -> ModuleType:
    """Return the module to take ``SparseConvTensor``, ``SubMConv3d`` and ``SparseConv3d`` from.

    Returns:
        With a GPU ``spconv.pytorch`` (version 2, built for GPUs) or ``spconv_triton.pytorch``, the
        first that can be imported; otherwise this module.
    """
    if torch.cuda.is_available():
        # A build for another CUDA version fails in many ways.
        with suppress(Exception):
            if not importlib.import_module('spconv.cppconstants').CPU_ONLY_BUILD:
                return importlib.import_module('spconv.pytorch')
        with suppress(Exception):
            return importlib.import_module('spconv_triton.pytorch')
    return sys.modules[__name__]


class _Pairs(NamedTuple):
    """Which rows meet in a convolution: for each cell of the kernel, in order, rows of both."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class SparseConvTensor:
    """Features of the occupied cells of a batch of three-dimensional grids.

    Args:
        features: (N, channels).
        indices: (N, 4) integers, the sample and the cell along each axis. No cell occurs twice.
        spatial_shape: Number of cells along the three axes.
        batch_size: Number of samples.
    """

    def __init__(
        self, features: Tensor, indices: Tensor, spatial_shape: Sequence[int], batch_size: int
    ) -> None:
        self.features = features
        self.indices = indices
        self.spatial_shape = list(spatial_shape)
        self.batch_size = batch_size
        self._neighbors: dict[tuple[int, ...], _Pairs] = {}

    def replace_feature(self, features: Tensor) -> SparseConvTensor:
        """Return the same cells with other features, (N, any number of channels)."""
        other = SparseConvTensor(features, self.indices, self.spatial_shape, self.batch_size)
        other._neighbors = self._neighbors
        return other

    def dense(self) -> Tensor:
        """Return the grids, (batch size, channels, *spatial shape), zero where nothing is."""
        grids = self.features.new_zeros(
            self.batch_size, *self.spatial_shape, self.features.shape[1]
        )
        grids = grids.index_put(tuple(self.indices.long().unbind(1)), self.features)
        return grids.permute(0, 4, 1, 2, 3).contiguous()

    def neighbors(self, kernel_size: tuple[int, ...]) -> _Pairs:
        """Return the pairs of occupied cells that a kernel centered on the one reaches."""
        if kernel_size not in self._neighbors:
            self._neighbors[kernel_size] = _pair_neighbors(
                self.indices.long(), self.spatial_shape, kernel_size
            )
        return self._neighbors[kernel_size]


class SparseConv3d(nn.Module):
    """Convolution whose output has every cell that an occupied cell reaches.

    Its weight is (out_channels, kernel along the three axes, in_channels), as in spconv 2.

    Args:
        in_channels: Of the input.
        out_channels: Of the output.
        kernel_size: Along all axes, or along each.
        stride: Likewise.
        padding: Likewise.
        bias: Whether to add one.
        indice_key: Unused: a tensor remembers by itself which of its cells are neighbors.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        bias: bool = True,
        indice_key: str | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = _along_axes(kernel_size)
        self.stride = _along_axes(stride)
        self.padding = _along_axes(padding)
        # spconv's start, which is also that of torch.nn.Conv3d.
        bound = 1 / math.sqrt(in_channels * math.prod(self.kernel_size))
        weight = torch.empty(out_channels, *self.kernel_size, in_channels)
        self.weight = nn.Parameter(weight.uniform_(-bound, bound))
        self.bias = (
            nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound)) if bias else None
        )

    def forward(self, x: SparseConvTensor) -> SparseConvTensor:
        """Return the output's cells, in the order of sample and cell, and their features."""
        shape = [
            (cells + 2 * padding - size) // stride + 1
            for cells, size, stride, padding in zip(
                x.spatial_shape, self.kernel_size, self.stride, self.padding
            )
        ]
        pairs, indices = _pair_reached(
            x.indices.long(), shape, self.kernel_size, self.stride, self.padding
        )
        features = self._convolve(x.features, pairs, len(indices))
        return SparseConvTensor(features, indices.to(x.indices.dtype), shape, x.batch_size)

    def _convolve(self, features: Tensor, pairs: _Pairs, num_outputs: int) -> Tensor:
        output: Tensor = _Convolution.apply(  # type: ignore[no-untyped-call]
            features, self.weight, pairs, num_outputs
        )
        return output if self.bias is None else output + self.bias


class SubMConv3d(SparseConv3d):
    """Submanifold convolution: the output has the input's cells, and no others.

    The arguments are those of :class:`SparseConv3d`; stride and padding have no effect, the kernel
    is centered and of odd size.
    """

    def forward(self, x: SparseConvTensor) -> SparseConvTensor:
        """Return the same cells with new features."""
        pairs = x.neighbors(self.kernel_size)
        return x.replace_feature(self._convolve(x.features, pairs, len(x.features)))


class _Convolution(Function):
    """Gather, multiply and add, one cell of the kernel after the other.

    Within one cell of the kernel every row occurs once, so that the sums have a fixed order. On a
    CPU ``index_select`` is ten times faster than indexing.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, pairs: _Pairs, num_outputs: int
    ) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.pairs = pairs
        output = features.new_zeros(num_outputs, len(weight))
        for kernel, inputs, outputs in zip(weight.flatten(1, 3).unbind(1), *pairs):
            output.index_add_(0, outputs, features.index_select(0, inputs) @ kernel.T)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        features, weight = ctx.saved_tensors
        of_features, of_weight = torch.zeros_like(features), torch.zeros_like(weight)
        kernels = zip(weight.flatten(1, 3).unbind(1), of_weight.flatten(1, 3).unbind(1))
        for (kernel, of_kernel), inputs, outputs in zip(kernels, *ctx.pairs):
            reached = gradient.index_select(0, outputs)
            of_features.index_add_(0, inputs, reached @ kernel)
            of_kernel.copy_(reached.T @ features.index_select(0, inputs))
        return of_features, of_weight, None, None


def _along_axes(size: Size) -> tuple[int, ...]:
    return (size,) * 3 if isinstance(size, int) else tuple(size)


def _kernel_cells(kernel_size: Sequence[int], device: torch.device) -> Tensor:
    """Return the cells of a kernel in the order of its weight, (K, 3) int64."""
    cells = tuple(product(*map(range, kernel_size)))
    return constant_tensor(cells, torch.int64, device)


def _numbers(cells: Tensor, shape: Sequence[int]) -> Tensor:
    """Return one number for each cell (..., 3) of a grid, or with the sample first (..., 4)."""
    number = cells[..., 0]
    for axis, count in enumerate(shape[-cells.shape[-1] + 1 :], 1):
        number = number * count + cells[..., axis]
    return number


def _split(rows: Tensor, counts: Sequence[int]) -> tuple[Tensor, ...]:
    return tuple(rows.split(list(counts)))


def _pair_neighbors(indices: Tensor, shape: Sequence[int], kernel_size: tuple[int, ...]) -> _Pairs:
    # Cells are numbered in a grid with a border, where steps do not lead from one row to another.
    bordered = [cells + size - 1 for cells, size in zip(shape, kernel_size)]
    center = constant_tensor(tuple(s // 2 for s in kernel_size), torch.int64, indices.device)
    steps = _numbers(_kernel_cells(kernel_size, indices.device) - center, bordered)
    numbers, order = _numbers(
        torch.cat((indices[:, :1], indices[:, 1:] + center), 1), bordered
    ).sort()
    # Steps after the center are those before it, backwards.
    half = len(steps) // 2
    wanted = numbers + steps[:half, None]
    found = torch.searchsorted(numbers, wanted).clamp_(max=max(len(numbers) - 1, 0))
    kernel, row = (numbers[found] == wanted).nonzero(as_tuple=True)
    counts = torch.bincount(kernel, minlength=half).tolist()
    before, after = _split(order[found[kernel, row]], counts), _split(order[row], counts)
    return _Pairs((*before, order, *after[::-1]), (*after, order, *before[::-1]))


def _pair_reached(
    indices: Tensor,
    out_shape: Sequence[int],
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> tuple[_Pairs, Tensor]:
    """Return the pairs of input and output cells, and the output cells, (M, 4) int64."""
    steps, shifts = (constant_tensor(v, torch.int64, indices.device) for v in (stride, padding))
    limits = constant_tensor(tuple(out_shape), torch.int64, indices.device) * steps
    reached = indices[:, 1:] + shifts - _kernel_cells(kernel_size, indices.device)[:, None]
    within = ((reached >= 0) & (reached < limits) & (reached % steps == 0)).all(-1)
    kernel, row = within.nonzero(as_tuple=True)
    cells = torch.cat((indices[row, :1], reached[kernel, row] // steps), 1)
    numbers, outputs = _numbers(cells, out_shape).unique(return_inverse=True)
    counts = torch.bincount(kernel, minlength=len(within)).tolist()
    axes = []
    for count in reversed(out_shape):
        axes.append(numbers % count)
        numbers = numbers // count
    out_indices = torch.stack((numbers, *reversed(axes)), 1)
    return _Pairs(_split(row, counts), _split(outputs, counts)), out_indices
