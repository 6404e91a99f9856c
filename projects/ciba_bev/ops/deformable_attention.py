"""Multi-scale deformable attention (Deformable DETR, Eq. 3) on any device.

CUDA tensors go to Triton's kernels, or to mmcv's compiled one where Triton cannot run; CPU tensors
to the loops of ``deformable_attention_cpu``; the rest to PyTorch's own operators. No path keeps the
sampled values for the backward pass, which are points x levels times the size of the output.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any, Callable

import torch
import torch.nn.functional as functional
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..errors import ConfigError
from ..precision import at_least_single, has_bfloat16
from .constants import constant_tensor
from .pyramid import SpatialShapes, level_starts

OLDEST_TRITON = 3  # major version


def deformable_attention(
    value: Tensor, spatial_shapes: SpatialShapes, sampling_locations: Tensor, weights: Tensor
) -> Tensor:
    """Sum bilinear samples of a feature pyramid, weighted by attention.

    Positions and sums are float32 also for half-precision values and under autocast. On CUDA the
    gradient of the value is the same from run to run only under
    ``torch.use_deterministic_algorithms``.

    Args:
        value: Features of all levels, flattened and concatenated, (B, S, heads, channels).
        spatial_shapes: Height and width of each level, Python numbers; their products sum to S.
        sampling_locations: Where to sample, (B, Q, heads, levels, points, 2), as (x, y) with
            (0, 0) the upper left corner of a level and (1, 1) its lower right one.
        weights: Attention weights, (B, Q, heads, levels, points).

    Returns:
        (B, Q, heads * channels) in the dtype of ``value``; samples outside a level count as zero.

    Raises:
        ConfigError: The shapes do not describe one pyramid.
    """
    _check_shapes(value, spatial_shapes, sampling_locations, weights)
    backend = available_backends(value.device, value.dtype)[0]
    return attend_by(backend, value, spatial_shapes, sampling_locations, weights)


def available_backends(device: torch.device, dtype: torch.dtype = torch.float32) -> list[str]:
    """Return the backends that can run on a device, the one that is used first.

    Args:
        device: Of the tensors.
        dtype: Of the value.

    Returns:
        Some of ``'triton'``, ``'mmcv'``, ``'numba'`` and ``'pytorch'``; the last is always there.
    """
    names = []
    if device.type == 'cuda':
        if _triton_reads(dtype, device) and _triton_runs(device):
            names.append('triton')
        # mmcv's kernel adds atomically whatever is asked for; PyTorch's says that it would.
        if _mmcv_has_cuda_operators() and not torch.are_deterministic_algorithms_enabled():
            names.append('mmcv')
    elif device.type == 'cpu':
        names.append('numba')
    return [*names, 'pytorch']


def attend_by(
    backend: str,
    value: Tensor,
    spatial_shapes: SpatialShapes,
    sampling_locations: Tensor,
    weights: Tensor,
) -> Tensor:
    """Run :func:`deformable_attention` with a given backend, to compare them.

    Args:
        backend: One of :func:`available_backends`.
        value: See :func:`deformable_attention`, as for the other arguments.
        spatial_shapes: Height and width of each level.
        sampling_locations: (B, Q, heads, levels, points, 2).
        weights: (B, Q, heads, levels, points).

    Returns:
        (B, Q, heads * channels) in the dtype of ``value``.
    """
    shapes = tuple((height, width) for height, width in spatial_shapes)
    if backend == 'triton':
        from .deformable_attention_triton import TritonAttention

        return _apply(TritonAttention, value, shapes, sampling_locations, weights)
    # The others have no mixed precision, and sampling positions do not survive half precision.
    with torch.autocast(device_type=value.device.type, enabled=False):
        result = _IN_ONE_DTYPE[backend](
            at_least_single(value),
            shapes,
            at_least_single(sampling_locations),
            at_least_single(weights),
        )
        return result.to(value.dtype)


def _apply(function: type[Function], *arguments: Any) -> Tensor:
    output: Tensor = function.apply(*arguments)
    return output


def _check_shapes(
    value: Tensor, spatial_shapes: SpatialShapes, sampling_locations: Tensor, weights: Tensor
) -> None:
    num_cells = sum(height * width for height, width in spatial_shapes)
    if value.size(1) != num_cells:
        raise ConfigError(
            f'value holds {value.size(1)} cells, but the levels {list(spatial_shapes)} '
            f'have {num_cells}. Pass the shapes of the levels that value was flattened from.'
        )
    if (len(value), value.size(2)) != (len(weights), weights.size(2)):
        raise ConfigError(
            f'value {tuple(value.shape)} and weights {tuple(weights.shape)} differ in batch size '
            'or heads.'
        )
    if sampling_locations.size(3) != len(spatial_shapes):
        raise ConfigError(
            f'sampling_locations has {sampling_locations.size(3)} levels, '
            f'spatial_shapes {len(spatial_shapes)}: both need one entry for each level.'
        )
    if sampling_locations.shape[:-1] != weights.shape:
        raise ConfigError(
            f'weights {tuple(weights.shape)} do not fit sampling_locations '
            f'{tuple(sampling_locations.shape)}, which must have the same axes and a last one of 2.'
        )


def _triton_reads(dtype: torch.dtype, device: torch.device) -> bool:
    if dtype == torch.bfloat16:
        return has_bfloat16(device)
    return dtype in (torch.float32, torch.float16)


@lru_cache(maxsize=None)
def _triton_runs(device: torch.device) -> bool:
    """Return whether Triton runs on a device: it needs a C compiler and a supported GPU."""
    if not has_triton():
        return False
    inputs = [torch.zeros(size, device=device) for size in [(1,) * 4, (1,) * 5 + (2,), (1,) * 5]]
    try:
        attend_by('triton', inputs[0], ((1, 1),), *inputs[1:])
    except Exception as error:  # whatever its compiler, the driver or the linker raise
        warnings.warn(
            'Triton is installed but does not run on this GPU, so deformable attention falls back '
            f'to slower code. {type(error).__name__}: {error}',
            stacklevel=2,
        )
        return False
    return True


def has_triton() -> bool:
    """Return whether a Triton that the kernels support is installed."""
    try:
        import triton
    except ImportError:
        return False
    return int(triton.__version__.split('.')[0]) >= OLDEST_TRITON


@lru_cache(maxsize=1)
def _mmcv_has_cuda_operators() -> bool:
    try:
        from mmcv.ops import get_compiling_cuda_version
    except ImportError:
        return False
    return bool(get_compiling_cuda_version() != 'not available')


def _by_mmcv(
    value: Tensor,
    spatial_shapes: tuple[tuple[int, int], ...],
    sampling_locations: Tensor,
    weights: Tensor,
) -> Tensor:
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    # The kernel works through the batch in steps that must divide it.
    step = next(step for step in range(min(64, len(value)), 0, -1) if len(value) % step == 0)
    attended: Tensor = MultiScaleDeformableAttnFunction.apply(
        value.contiguous(),
        constant_tensor(spatial_shapes, torch.long, value.device),
        constant_tensor(level_starts(spatial_shapes), torch.long, value.device),
        sampling_locations.contiguous(),
        weights.contiguous(),
        step,
    )
    return attended


def _by_numba(*arguments: Tensor | tuple[tuple[int, int], ...]) -> Tensor:
    from .deformable_attention_cpu import CompiledAttention  # numba: a slow import

    return _apply(CompiledAttention, *arguments)


def _by_pytorch(*arguments: Tensor | tuple[tuple[int, int], ...]) -> Tensor:
    return _apply(_RecomputingAttention, *arguments)


_IN_ONE_DTYPE: dict[str, Callable[..., Tensor]] = {
    'mmcv': _by_mmcv,
    'numba': _by_numba,
    'pytorch': _by_pytorch,
}


class _RecomputingAttention(Function):
    """PyTorch's operators, level by level, sampled again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        spatial_shapes: tuple[tuple[int, int], ...],
        sampling_locations: Tensor,
        weights: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(value, sampling_locations, weights)
        ctx.spatial_shapes = spatial_shapes
        heads, channels = value.shape[2:]
        output = value.new_zeros(*weights.shape[:2], heads * channels)
        for level, cells in enumerate(_cells_of_levels(spatial_shapes)):
            output += _sample_level(
                value[:, cells],
                spatial_shapes[level],
                sampling_locations[:, :, :, level],
                weights[:, :, :, level],
            )
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
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
    """Return the slice of each level in the flattened pyramid."""
    starts = level_starts(spatial_shapes)
    return [
        slice(start, start + height * width)
        for start, (height, width) in zip(starts, spatial_shapes)
    ]


def _sample_level(
    value: Tensor, spatial_shape: tuple[int, int], locations: Tensor, weights: Tensor
) -> Tensor:
    """Return one level's share of the output, differentiable by autograd.

    Args:
        value: (B, height * width, heads, channels).
        spatial_shape: Height and width in cells.
        locations: (B, Q, heads, points, 2) in [0, 1].
        weights: (B, Q, heads, points).

    Returns:
        (B, Q, heads * channels).
    """
    batch, _, heads, channels = value.shape
    queries = locations.size(1)
    feature = value.permute(0, 2, 3, 1).reshape(batch * heads, channels, *spatial_shape)
    grid = (2 * locations - 1).transpose(1, 2).flatten(0, 1)
    samples = functional.grid_sample(
        feature, grid, mode='bilinear', padding_mode='zeros', align_corners=False
    )
    weighted = samples * weights.transpose(1, 2).flatten(0, 1).unsqueeze(1)
    output = weighted.sum(-1).view(batch, heads, channels, queries)
    return output.permute(0, 3, 1, 2).reshape(batch, queries, heads * channels)
