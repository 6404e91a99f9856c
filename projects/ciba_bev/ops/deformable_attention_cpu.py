"""Deformable attention for CPU tensors: compiled loops that keep no sampled value.

Each thread works on its own (sample, head) pairs, whose outputs and gradients nobody else writes.
Plain Python threads carry the compiled code, which releases the interpreter lock: unlike OpenMP
teams they survive the forks of data loaders and do not spin while other processes work.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Callable

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class CompiledAttention(Function):
    """Same arguments and result as :func:`ciba_bev.ops.deformable_attention`, on the CPU."""

    @staticmethod
    def forward(
        ctx: Function,
        value: Tensor,
        spatial_shapes: tuple[tuple[int, int], ...],
        sampling_locations: Tensor,
        weights: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(value, sampling_locations, weights)
        ctx.shapes = np.array(spatial_shapes, dtype=np.int64)
        inputs = _as_arrays(value, sampling_locations, weights)
        batch, queries, heads = sampling_locations.shape[:3]
        output = value.new_zeros(batch, queries, heads, value.size(-1))
        _over_pairs(batch * heads, _forward, (*inputs, ctx.shapes, output.numpy()))
        return output.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Function, grad_output: Tensor) -> tuple[Tensor | None, ...]:
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


def _as_arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def _over_pairs(num_pairs: int, kernel: Callable, arguments: tuple) -> None:
    """Split the (sample, head) pairs between as many threads as PyTorch would use."""
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
    value: np.ndarray,
    locations: np.ndarray,
    weights: np.ndarray,
    shapes: np.ndarray,
    output: np.ndarray,
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
            total[:] = 0
            start = 0
            for level in range(levels):
                height, width = shapes[level, 0], shapes[level, 1]
                for point in range(points):
                    x = locations[sample, query, head, level, point, 0] * width - 0.5
                    y = locations[sample, query, head, level, point, 1] * height - 0.5
                    if not (-1 < x < width and -1 < y < height):
                        continue
                    attention = weights[sample, query, head, level, point]
                    left, top = int(np.floor(x)), int(np.floor(y))
                    for corner in range(4):
                        column, row = left + corner % 2, top + corner // 2
                        if 0 <= column < width and 0 <= row < height:
                            share = attention * (1 - abs(x - column)) * (1 - abs(y - row))
                            cell = start + row * width + column
                            for channel in range(channels):
                                total[channel] += share * value[sample, cell, head, channel]
                start += height * width
            for channel in range(channels):
                output[sample, query, head, channel] = total[channel]


@njit(nogil=True, fastmath=True, cache=True)
def _backward(
    value: np.ndarray,
    locations: np.ndarray,
    weights: np.ndarray,
    shapes: np.ndarray,
    gradient: np.ndarray,
    grad_value: np.ndarray,
    grad_locations: np.ndarray,
    grad_weights: np.ndarray,
    first_pair: int,
    last_pair: int,
) -> None:
    """Fill the three gradients, given that of the output (B, Q, heads, channels)."""
    _, queries, heads, levels, points, _ = locations.shape
    channels = value.shape[3]
    for pair in range(first_pair, last_pair):
        sample, head = pair // heads, pair % heads
        for query in range(queries):
            start = 0
            for level in range(levels):
                height, width = shapes[level, 0], shapes[level, 1]
                for point in range(points):
                    x = locations[sample, query, head, level, point, 0] * width - 0.5
                    y = locations[sample, query, head, level, point, 1] * height - 0.5
                    if not (-1 < x < width and -1 < y < height):
                        continue
                    attention = weights[sample, query, head, level, point]
                    left, top = int(np.floor(x)), int(np.floor(y))
                    sampled, slope_x, slope_y = 0.0, 0.0, 0.0
                    for corner in range(4):
                        column, row = left + corner % 2, top + corner // 2
                        if 0 <= column < width and 0 <= row < height:
                            share_x, share_y = 1 - abs(x - column), 1 - abs(y - row)
                            share = attention * share_x * share_y
                            cell = start + row * width + column
                            product = value.dtype.type(0)
                            for channel in range(channels):
                                product += (
                                    gradient[sample, query, head, channel]
                                    * value[sample, cell, head, channel]
                                )
                                grad_value[sample, cell, head, channel] += (
                                    share * gradient[sample, query, head, channel]
                                )
                            sampled += share_x * share_y * product
                            # The share grows towards a right or lower corner, and falls away
                            # from a left or upper one.
                            slope_x += share_y * product * (2 * (corner % 2) - 1)
                            slope_y += share_x * product * (2 * (corner // 2) - 1)
                    grad_weights[sample, query, head, level, point] = sampled
                    grad_locations[sample, query, head, level, point, 0] = (
                        attention * slope_x * width
                    )
                    grad_locations[sample, query, head, level, point, 1] = (
                        attention * slope_y * height
                    )
                start += height * width
