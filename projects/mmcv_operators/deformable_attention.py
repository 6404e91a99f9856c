"""Multi-scale deformable attention (Zhu et al., Deformable DETR) and its gradients."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .arrays import compiled, in_threads, to_array, uses_loops, without_autocast


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Sample a pyramid of feature maps and sum the samples weighted by attention.

    Args:
        value: Features of all levels, flattened and concatenated, (B, S, heads, channels).
        value_spatial_shapes: Height and width of each level, int64 (levels, 2).
        value_level_start_index: The first cell of each level, int64 (levels,).
        sampling_locations: (B, Q, heads, levels, points, 2), as (x, y) with (0, 0) the upper left
            corner of a level and (1, 1) its lower right one.
        attention_weights: (B, Q, heads, levels, points).
        im2col_step: Unused; how many samples mmcv's kernel takes at once.

    Returns:
        (B, Q, heads * channels); samples outside of a level count as zero.
    """
    if not uses_loops(value):
        return _attend(
            *(value, value_spatial_shapes, value_level_start_index),
            *(sampling_locations, attention_weights),
        )
    arrays = [to_array(t) for t in (value, sampling_locations, attention_weights)]
    levels = torch.cat((value_spatial_shapes, value_level_start_index[:, None]), 1)
    batch, queries, heads = sampling_locations.shape[:3]
    output = np.zeros((batch, queries, heads, value.size(3)), dtype=arrays[0].dtype)
    in_threads(batch * heads, _forward, *arrays, levels.numpy(), output)
    return torch.from_numpy(output).flatten(2).to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Compute the gradients of :func:`ms_deform_attn_forward`.

    Args:
        value: See :func:`ms_deform_attn_forward`, as the next four.
        value_spatial_shapes: See above.
        value_level_start_index: See above.
        sampling_locations: See above.
        attention_weights: See above.
        grad_output: The gradient of the result, (B, Q, heads * channels).
        grad_value: Filled with the gradient of ``value``.
        grad_sampling_loc: Filled with the gradient of ``sampling_locations``.
        grad_attn_weight: Filled with the gradient of ``attention_weights``.
        im2col_step: Unused.
    """
    inputs = (value, sampling_locations, attention_weights)
    results = (grad_value, grad_sampling_loc, grad_attn_weight)
    if not uses_loops(value):
        with torch.enable_grad():
            value, sampling_locations, attention_weights = inputs = [
                tensor.detach().requires_grad_() for tensor in inputs
            ]
            output = _attend(
                *(value, value_spatial_shapes, value_level_start_index),
                *(sampling_locations, attention_weights),
            )
        gradients = torch.autograd.grad(output, inputs, grad_output)
        for result, gradient in zip(results, gradients):
            result.copy_(gradient)
        return
    arrays = [to_array(tensor) for tensor in inputs]
    levels = torch.cat((value_spatial_shapes, value_level_start_index[:, None]), 1)
    batch, queries, heads = sampling_locations.shape[:3]
    gradient = to_array(grad_output.view(batch, queries, heads, value.size(3)))
    computed = [np.zeros_like(array) for array in arrays]
    in_threads(batch * heads, _backward, *arrays, levels.numpy(), gradient, *computed)
    for result, array in zip(results, computed):
        result.copy_(torch.from_numpy(array))


@without_autocast
def _attend(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Compute the same with PyTorch's own operators, for any device."""
    batch, _, heads, channels = value.shape
    queries = sampling_locations.size(1)
    shapes = spatial_shapes.tolist()
    grids = (2 * sampling_locations - 1).transpose(1, 2).flatten(0, 1)
    weights = attention_weights.transpose(1, 2).flatten(0, 1)[:, None]
    output = value.new_zeros(batch * heads, channels, queries)
    for level, (start, (height, width)) in enumerate(zip(level_start_index.tolist(), shapes)):
        cells = value[:, start : start + height * width]
        samples = functional.grid_sample(
            cells.permute(0, 2, 3, 1).reshape(batch * heads, channels, height, width),
            grids[:, :, level],
            mode='bilinear',
            padding_mode='zeros',
            align_corners=False,
        )
        output = output + (samples * weights[:, :, :, level]).sum(-1)
    return output.view(batch, heads, channels, queries).permute(0, 3, 1, 2).flatten(2)


@compiled(fastmath=True)
def _forward(
    value: np.ndarray,
    locations: np.ndarray,
    weights: np.ndarray,
    levels: np.ndarray,
    output: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Fill ``output`` (B, Q, heads, channels) for some ``sample * heads + head``.

    Nobody else writes to these, so that threads need no locks.
    """
    _, queries, heads, num_levels, points, _ = locations.shape
    channels = value.shape[3]
    total = np.zeros(channels, dtype=value.dtype)
    for pair in range(first, last):
        sample, head = pair // heads, pair % heads
        for query in range(queries):
            total[:] = 0
            for level in range(num_levels):
                height, width, start = levels[level, 0], levels[level, 1], levels[level, 2]
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
                            # In the features' own type, for twice as many channels at once.
                            share = value.dtype.type(
                                attention * (1 - abs(x - column)) * (1 - abs(y - row))
                            )
                            cell = start + row * width + column
                            for channel in range(channels):
                                total[channel] += share * value[sample, cell, head, channel]
            for channel in range(channels):
                output[sample, query, head, channel] = total[channel]


@compiled(fastmath=True)
def _backward(
    value: np.ndarray,
    locations: np.ndarray,
    weights: np.ndarray,
    levels: np.ndarray,
    gradient: np.ndarray,
    grad_value: np.ndarray,
    grad_locations: np.ndarray,
    grad_weights: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Add to the three gradients, given that of the output (B, Q, heads, channels)."""
    _, queries, heads, num_levels, points, _ = locations.shape
    channels = value.shape[3]
    for pair in range(first, last):
        sample, head = pair // heads, pair % heads
        for query in range(queries):
            for level in range(num_levels):
                height, width, start = levels[level, 0], levels[level, 1], levels[level, 2]
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
                        if not (0 <= column < width and 0 <= row < height):
                            continue
                        share_x, share_y = 1 - abs(x - column), 1 - abs(y - row)
                        share = value.dtype.type(attention * share_x * share_y)
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
                        # A right or lower corner gains as the position moves to it, others lose.
                        slope_x += share_y * product * (2 * (corner % 2) - 1)
                        slope_y += share_x * product * (2 * (corner // 2) - 1)
                    grad_weights[sample, query, head, level, point] = sampled
                    grad_locations[sample, query, head, level, point, 0] = (
                        attention * slope_x * width
                    )
                    grad_locations[sample, query, head, level, point, 1] = (
                        attention * slope_y * height
                    )
