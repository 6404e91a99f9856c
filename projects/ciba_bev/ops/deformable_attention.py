"""Multi-scale deformable attention (Deformable DETR, Eq. 3) on any device.

CUDA tensors go to mmcv's compiled kernel when mmcv has it, CPU tensors to the loops of
``deformable_attention_cpu``, and the rest to PyTorch's own operators. No path keeps the sampled
values for the backward pass, which would be points x levels times the size of the output.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor
from torch.autograd import Function

SpatialShapes = Sequence['tuple[int, int]']


def deformable_attention(
    value: Tensor, spatial_shapes: SpatialShapes, sampling_locations: Tensor, weights: Tensor
) -> Tensor:
    """Sum bilinear samples of a feature pyramid, weighted by attention.

    Args:
        value: Features of all levels, flattened and concatenated, (B, S, heads, channels).
        spatial_shapes: Height and width of each level; their products sum to S.
        sampling_locations: Where to sample, (B, Q, heads, levels, points, 2), as (x, y) with
            (0, 0) the upper left corner of a level and (1, 1) its lower right one.
        weights: Attention weights, (B, Q, heads, levels, points).

    Returns:
        (B, Q, heads * channels) in the dtype of ``value``; samples outside a level count as zero.

    Raises:
        ValueError: The shapes do not describe one pyramid.
    """
    _check_shapes(value, spatial_shapes, sampling_locations, weights)
    dtype = value.dtype
    # Sampling positions do not survive half precision, so autocast ends at this door.
    value, sampling_locations, weights = (
        tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
        for tensor in (value, sampling_locations, weights)
    )
    with torch.autocast(device_type=value.device.type, enabled=False):
        if value.is_cuda and _mmcv_has_cuda_operators():
            return _compiled(value, spatial_shapes, sampling_locations, weights).to(dtype)
        arguments = (value, tuple(spatial_shapes), sampling_locations, weights)
        if value.device.type == 'cpu':
            from .deformable_attention_cpu import CompiledAttention  # numba: a slow import

            return CompiledAttention.apply(*arguments).to(dtype)
        return _RecomputingAttention.apply(*arguments).to(dtype)


def _check_shapes(
    value: Tensor, spatial_shapes: SpatialShapes, sampling_locations: Tensor, weights: Tensor
) -> None:
    num_cells = sum(height * width for height, width in spatial_shapes)
    if value.size(1) != num_cells:
        raise ValueError(
            f'value holds {value.size(1)} cells, but the levels {list(spatial_shapes)} '
            f'have {num_cells}'
        )
    if (len(value), value.size(2)) != (len(weights), weights.size(2)):
        raise ValueError(
            f'value {tuple(value.shape)} and weights {tuple(weights.shape)} differ in batch size '
            'or heads'
        )
    if sampling_locations.size(3) != len(spatial_shapes):
        raise ValueError(
            f'sampling_locations has {sampling_locations.size(3)} levels, '
            f'spatial_shapes {len(spatial_shapes)}'
        )
    if sampling_locations.shape[:-1] != weights.shape:
        raise ValueError(
            f'weights {tuple(weights.shape)} do not fit sampling_locations '
            f'{tuple(sampling_locations.shape)}'
        )


@lru_cache(maxsize=1)
def _mmcv_has_cuda_operators() -> bool:
    try:
        from mmcv.ops import get_compiling_cuda_version
    except ImportError:
        return False
    return get_compiling_cuda_version() != 'not available'


def _compiled(
    value: Tensor, spatial_shapes: SpatialShapes, sampling_locations: Tensor, weights: Tensor
) -> Tensor:
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    shapes = torch.tensor(spatial_shapes, dtype=torch.long, device=value.device)
    level_start = torch.cat((shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]))
    # The kernel works through the batch in steps that must divide it.
    step = next(step for step in range(min(64, len(value)), 0, -1) if len(value) % step == 0)
    return MultiScaleDeformableAttnFunction.apply(
        value.contiguous(),
        shapes,
        level_start,
        sampling_locations.contiguous(),
        weights.contiguous(),
        step,
    )


class _RecomputingAttention(Function):
    """PyTorch's own operators, level by level, sampled again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Function,
        value: Tensor,
        spatial_shapes: tuple[tuple[int, int], ...],
        sampling_locations: Tensor,
        weights: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(value, sampling_locations, weights)
        ctx.spatial_shapes = spatial_shapes
        output = None
        for level, cells in enumerate(_cells_of_levels(spatial_shapes)):
            part = _sample_level(
                value[:, cells],
                spatial_shapes[level],
                sampling_locations[:, :, :, level],
                weights[:, :, :, level],
            )
            output = part if output is None else output + part
        return output

    @staticmethod
    def backward(ctx: Function, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        value, sampling_locations, weights = ctx.saved_tensors
        grad_value = torch.empty_like(value)
        grad_locations = torch.empty_like(sampling_locations)
        grad_weights = torch.empty_like(weights)
        for level, cells in enumerate(_cells_of_levels(ctx.spatial_shapes)):
            inputs = [
                tensor.detach().requires_grad_()
                for tensor in (
                    value[:, cells],
                    sampling_locations[:, :, :, level],
                    weights[:, :, :, level],
                )
            ]
            with torch.enable_grad():
                output = _sample_level(inputs[0], ctx.spatial_shapes[level], *inputs[1:])
            gradients = torch.autograd.grad(output, inputs, grad_output)
            grad_value[:, cells] = gradients[0]
            grad_locations[:, :, :, level] = gradients[1]
            grad_weights[:, :, :, level] = gradients[2]
        return grad_value, None, grad_locations, grad_weights


def _cells_of_levels(spatial_shapes: SpatialShapes) -> list[slice]:
    """Where each level lies in the flattened pyramid."""
    ends = list(accumulate(height * width for height, width in spatial_shapes))
    return [slice(start, end) for start, end in zip([0, *ends], ends)]


def _sample_level(
    value: Tensor, spatial_shape: tuple[int, int], locations: Tensor, weights: Tensor
) -> Tensor:
    """One level's share of the output, as differentiable PyTorch.

    Args:
        value: (B, height * width, heads, channels).
        spatial_shape: Height and width.
        locations: (B, Q, heads, points, 2) in [0, 1].
        weights: (B, Q, heads, points).

    Returns:
        (B, Q, heads * channels).
    """
    batch, _, heads, channels = value.shape
    queries = locations.size(1)
    feature_map = value.permute(0, 2, 3, 1).reshape(batch * heads, channels, *spatial_shape)
    grid = (2 * locations - 1).transpose(1, 2).flatten(0, 1)
    samples = functional.grid_sample(
        feature_map, grid, mode='bilinear', padding_mode='zeros', align_corners=False
    )
    weighted = samples * weights.transpose(1, 2).flatten(0, 1).unsqueeze(1)
    output = weighted.sum(-1).view(batch, heads, channels, queries)
    return output.permute(0, 3, 1, 2).reshape(batch, queries, heads * channels)
