"""Deformable attention for CPU tensors: compiled loops that keep no sampled value.

Each thread works on its own (sample, head) pairs, so no two threads write to one address.
Plain Python threads carry the compiled code, which releases the interpreter lock: unlike OpenMP
teams they survive the forks of data loaders and do not spin while other processes work.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class CompiledAttention(Function):
    """Compute :func:`ciba_bev.ops.deformable_attention` on the CPU, for one floating dtype."""

    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        spatial_shapes: tuple[tuple[int, int], ...],
        sampling_locations: Tensor,
        weights: Tensor,
    ) -> Tensor:
        """Return (B, Q, heads * channels), in the dtype of ``value``."""
        ctx.save_for_backward(value, sampling_locations, weights)
        ctx.shapes = np.array(spatial_shapes, dtype=np.int64)
        inputs = _as_arrays(value, sampling_locations, weights)
        batch, queries, heads = sampling_locations.shape[:3]
        output = value.new_zeros(batch, queries, heads, value.size(-1))
        _over_pairs(batch * heads, _forward, (*inputs, ctx.shapes, output.numpy()))
        return output.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of value, locations and weights, each in its shape and dtype."""
        value, sampling_locations, weights = ctx.saved_tensors
        inputs = _as_arrays(value, sampling_locations, weights)
        batch, queries, heads = sampling_locations.shape[:3]
        gradient = grad_output.contiguous().view(batch, queries, heads, value.size(-1))
        results = [
            torch.zeros(tensor.shape, dtype=tensor.dtype)
            for tensor in (value, sampling_locations, weights)
        ]
        arrays = [result.numpy() for result in results]
        _over_pairs(
            batch * heads, _backward, (*inputs, ctx.shapes, gradient.detach().numpy(), *arrays)
        )
        return results[0], None, results[1], results[2]


def _as_arrays(*tensors: Tensor) -> list[NDArray[Any]]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def _over_pairs(num_pairs: int, kernel: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Split the (sample, head) pairs between as many threads as PyTorch uses."""
    threads = min(torch.get_num_threads(), num_pairs)
    if threads == 1:
        kernel(*arguments, 0, num_pairs)
        return
    bounds = np.linspace(0, num_pairs, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        jobs = [
            pool.submit(kernel, *arguments, first, last)
            for first, last in zip(bounds[:-1], bounds[1:])
        ]
        for job in jobs:
            job.result()


@njit(nogil=True, fastmath=True, cache=True)
def _forward(
    value: NDArray[Any],
    locations: NDArray[Any],
    weights: NDArray[Any],
    shapes: NDArray[Any],
    output: NDArray[Any],
    first_pair: int,
    last_pair: int,
) -> None:
    """Fill ``output`` (B, Q, heads, channels) for the pairs ``first_pair <= pair < last_pair``."""
    _, queries, heads, levels, points, _ = locations.shape
    channels = value.shape[3]
    total = np.zeros(channels, dtype=value.dtype)
    for pair in range(first_pair, last_pair):
        sample, head = pair // heads, pair % heads
        for query in range(queries):
            position = locations[sample, query, head]
            attention = weights[sample, query, head]
            total[:] = 0
            start = 0
            for level in range(levels):
                height, width = shapes[level, 0], shapes[level, 1]
                for point in range(points):
                    x = position[level, point, 0] * width - 0.5
                    y = position[level, point, 1] * height - 0.5
                    if not (-1 < x < width and -1 < y < height):
                        continue
                    cells, shares_x, shares_y, _, _ = _corners(
                        x, y, height, width, start, value.dtype.type
                    )
                    upper = attention[level, point] * shares_y[0]
                    lower = attention[level, point] * shares_y[1]
                    share_0, share_1 = upper * shares_x[0], upper * shares_x[1]
                    share_2, share_3 = lower * shares_x[0], lower * shares_x[1]
                    value_0, value_1 = value[sample, cells[0], head], value[sample, cells[1], head]
                    value_2, value_3 = value[sample, cells[2], head], value[sample, cells[3], head]
                    for channel in range(channels):
                        total[channel] += (
                            share_0 * value_0[channel] + share_1 * value_1[channel]
                        ) + (share_2 * value_2[channel] + share_3 * value_3[channel])
                start += height * width
            for channel in range(channels):
                output[sample, query, head, channel] = total[channel]


@njit(nogil=True, fastmath=True, cache=True)
def _backward(
    value: NDArray[Any],
    locations: NDArray[Any],
    weights: NDArray[Any],
    shapes: NDArray[Any],
    gradient: NDArray[Any],
    grad_value: NDArray[Any],
    grad_locations: NDArray[Any],
    grad_weights: NDArray[Any],
    first_pair: int,
    last_pair: int,
) -> None:
    """Fill the three gradients, given that of the output (B, Q, heads, channels)."""
    _, queries, heads, levels, points, _ = locations.shape
    channels, kind = value.shape[3], value.dtype.type
    for pair in range(first_pair, last_pair):
        sample, head = pair // heads, pair % heads
        for query in range(queries):
            position = locations[sample, query, head]
            given = gradient[sample, query, head]
            grad_position = grad_locations[sample, query, head]
            grad_attention = grad_weights[sample, query, head]
            start = 0
            for level in range(levels):
                height, width = shapes[level, 0], shapes[level, 1]
                for point in range(points):
                    x = position[level, point, 0] * width - 0.5
                    y = position[level, point, 1] * height - 0.5
                    if not (-1 < x < width and -1 < y < height):
                        continue
                    attention = weights[sample, query, head, level, point]
                    cells, shares_x, shares_y, signs_x, signs_y = _corners(
                        x, y, height, width, start, kind
                    )
                    value_0, value_1 = value[sample, cells[0], head], value[sample, cells[1], head]
                    value_2, value_3 = value[sample, cells[2], head], value[sample, cells[3], head]
                    product_0 = product_1 = product_2 = product_3 = kind(0)
                    for channel in range(channels):
                        product_0 += given[channel] * value_0[channel]
                        product_1 += given[channel] * value_1[channel]
                        product_2 += given[channel] * value_2[channel]
                        product_3 += given[channel] * value_3[channel]
                    # One corner at a time: the compiler cannot know that they do not overlap.
                    for corner in range(4):
                        share = attention * shares_y[corner // 2] * shares_x[corner % 2]
                        target = grad_value[sample, cells[corner], head]
                        for channel in range(channels):
                            target[channel] += share * given[channel]
                    row_0 = shares_x[0] * product_0 + shares_x[1] * product_1
                    row_1 = shares_x[0] * product_2 + shares_x[1] * product_3
                    grad_attention[level, point] = shares_y[0] * row_0 + shares_y[1] * row_1
                    slope_0 = signs_x[0] * product_0 + signs_x[1] * product_1
                    slope_1 = signs_x[0] * product_2 + signs_x[1] * product_3
                    grad_position[level, point, 0] = (
                        attention * kind(width) * (shares_y[0] * slope_0 + shares_y[1] * slope_1)
                    )
                    grad_position[level, point, 1] = (
                        attention * kind(height) * (signs_y[0] * row_0 + signs_y[1] * row_1)
                    )
                start += height * width


@njit(nogil=True, fastmath=True, cache=True)
def _corners(
    x: float, y: float, height: int, width: int, start: int, kind: Callable[[Any], Any]
) -> tuple[tuple[Any, ...], ...]:
    """Return the four cells around a position, and how it is shared between them.

    Branches that depend on the data cost more than wasted work, so a corner outside the level gets
    the nearest cell with a share of zero.

    Returns:
        Indices of the cells (upper left, upper right, lower left, lower right); shares of the left
        and right column; shares of the upper and lower row; the slopes of those shares, -1 and 1,
        or 0 outside.
    """
    # Rounded down: positions are greater than -1, and int() rounds towards zero.
    left, top = int(x + 1) - 1, int(y + 1) - 1
    right_share, lower_share = kind(x - left), kind(y - top)
    has_left, has_right = kind(left >= 0), kind(left + 1 < width)
    has_upper, has_lower = kind(top >= 0), kind(top + 1 < height)
    upper_row = start + max(top, 0) * width
    lower_row = start + min(top + 1, height - 1) * width
    left, right = max(left, 0), min(left + 1, width - 1)
    return (
        (upper_row + left, upper_row + right, lower_row + left, lower_row + right),
        (has_left * (kind(1) - right_share), has_right * right_share),
        (has_upper * (kind(1) - lower_share), has_lower * lower_share),
        (-has_left, has_right),
        (-has_upper, has_lower),
    )
