"""Deformable convolution, plain and modulated (Zhu et al., Deformable ConvNets v2).

A convolution whose taps are read at positions that a feature map of offsets moves, each scaled by a
mask in the modulated version. On the CPU a compiled loop lays the samples of all taps into one
matrix, and a matrix product does the rest. Elsewhere torchvision's operator is used if torchvision
is installed, and PyTorch's ``grid_sample`` otherwise.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Callable, Iterator, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .arrays import compiled, in_threads, to_array, uses_loops, without_autocast


class _Geometry(NamedTuple):
    """Sizes of a convolution, each for height and width."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Convolve with moved and scaled taps.

    Args:
        input: (B, C, H, W).
        weight: (C', C / group, kernel_h, kernel_w).
        bias: (C',), used if ``with_bias``.
        ones: Unused.
        offset: Of each tap in cells, (B, deformable_group * kernel_h * kernel_w * 2, H', W'), y
            before x.
        mask: Factor of each tap, (B, deformable_group * kernel_h * kernel_w, H', W').
        output: Filled with the result, (B, C', H', W').
        columns: Unused.
        kernel_h: Size of the kernel.
        kernel_w: Size of the kernel.
        stride_h: Cells between two results.
        stride_w: Cells between two results.
        pad_h: Zeros around the input.
        pad_w: Zeros around the input.
        dilation_h: Cells between two taps.
        dilation_w: Cells between two taps.
        group: Groups of channels that are convolved each on its own.
        deformable_group: Groups of input channels with offsets and masks of their own.
        with_bias: Whether there is a bias.
    """
    geometry = _Geometry(
        (kernel_h, kernel_w), (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w)
    )
    result = _convolve(input, weight, offset, mask, geometry, group, deformable_group)
    if with_bias:
        result += bias.view(1, -1, 1, 1)
    output.copy_(result.view_as(output))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Compute the gradients of :func:`modulated_deform_conv_forward`.

    Args:
        input: See :func:`modulated_deform_conv_forward`, as the other sizes and inputs.
        weight: See above.
        bias: See above.
        ones: Unused.
        offset: See above.
        mask: See above.
        columns: Unused.
        grad_input: Filled with the gradient of ``input``.
        grad_weight: Filled with the gradient of ``weight``.
        grad_bias: Filled with the gradient of ``bias`` if there is one.
        grad_offset: Filled with the gradient of ``offset``.
        grad_mask: Filled with the gradient of ``mask``.
        grad_output: The gradient of the result, (B, C', H', W').
        kernel_h: See above, as the sizes that follow.
        kernel_w: See above.
        stride_h: See above.
        stride_w: See above.
        pad_h: See above.
        pad_w: See above.
        dilation_h: See above.
        dilation_w: See above.
        group: See above.
        deformable_group: See above.
        with_bias: See above.
    """
    geometry = _Geometry(
        (kernel_h, kernel_w), (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w)
    )
    gradients = _gradients(
        input, weight, offset, mask, grad_output, geometry, group, deformable_group
    )
    for result, gradient in zip((grad_input, grad_weight, grad_offset, grad_mask), gradients):
        result.copy_(gradient)
    if with_bias:
        grad_bias.copy_(grad_output.sum((0, 2, 3)))


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,  # noqa: N803 (mmcv's names)
    kH: int,  # noqa: N803
    dW: int,  # noqa: N803
    dH: int,  # noqa: N803
    padW: int,  # noqa: N803
    padH: int,  # noqa: N803
    dilationW: int,  # noqa: N803
    dilationH: int,  # noqa: N803
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Convolve with moved taps: :func:`modulated_deform_conv_forward` without bias and mask."""
    geometry = _Geometry((kH, kW), (dH, dW), (padH, padW), (dilationH, dilationW))
    mask = _no_mask(offset)
    result = _convolve(input, weight, offset, mask, geometry, group, deformable_group)
    output.copy_(result.view_as(output))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,  # noqa: N803 (mmcv's names)
    gradInput: Tensor,  # noqa: N803
    gradOffset: Tensor,  # noqa: N803
    weight: Tensor,
    columns: Tensor,
    kW: int,  # noqa: N803
    kH: int,  # noqa: N803
    dW: int,  # noqa: N803
    dH: int,  # noqa: N803
    padW: int,  # noqa: N803
    padH: int,  # noqa: N803
    dilationW: int,  # noqa: N803
    dilationH: int,  # noqa: N803
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Compute the gradients of :func:`deform_conv_forward` by its input and its offsets."""
    geometry = _Geometry((kH, kW), (dH, dW), (padH, padW), (dilationH, dilationW))
    mask = _no_mask(offset)
    grad_input, _, grad_offset, _ = _gradients(
        input, weight, offset, mask, gradOutput, geometry, group, deformable_group
    )
    gradInput.copy_(grad_input)
    gradOffset.copy_(grad_offset)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,  # noqa: N803 (mmcv's names)
    gradWeight: Tensor,  # noqa: N803
    columns: Tensor,
    ones: Tensor,
    kW: int,  # noqa: N803
    kH: int,  # noqa: N803
    dW: int,  # noqa: N803
    dH: int,  # noqa: N803
    padW: int,  # noqa: N803
    padH: int,  # noqa: N803
    dilationW: int,  # noqa: N803
    dilationH: int,  # noqa: N803
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Add ``scale`` times the gradient by the weight of :func:`deform_conv_forward`."""
    geometry = _Geometry((kH, kW), (dH, dW), (padH, padW), (dilationH, dilationW))
    mask = _no_mask(offset)
    gradients = _gradients(
        *(input, gradWeight, offset, mask, gradOutput, geometry, group, deformable_group),
        of_weight_only=True,
    )
    gradWeight.add_(gradients[1], alpha=scale)


def _no_mask(offset: Tensor) -> Tensor:
    return offset.new_ones(1).expand(
        offset.size(0), offset.size(1) // 2, offset.size(2), offset.size(3)
    )


@without_autocast
def _convolve(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor,
    geometry: _Geometry,
    groups: int,
    deformable_groups: int,
) -> Tensor:
    """Return the result (B, C', H', W') without bias."""
    if not uses_loops(input):
        return _convolve_tensors(input, weight, offset, mask, geometry, groups, deformable_groups)
    kernels = _kernels(weight, groups)
    outputs = []
    for image, *positions in _samples(input, offset, mask, deformable_groups):
        columns = _columns(image, positions, geometry)
        outputs.append(torch.einsum('pkgc,gock->gop', _in_groups(columns, groups), kernels))
    return torch.stack(outputs).view(len(input), len(weight), *offset.shape[2:])


@without_autocast
def _gradients(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor,
    grad_output: Tensor,
    geometry: _Geometry,
    groups: int,
    deformable_groups: int,
    of_weight_only: bool = False,
) -> tuple[Tensor | None, Tensor, Tensor | None, Tensor | None]:
    """Return the gradients of ``input``, ``weight``, ``offset`` and ``mask``."""
    if not uses_loops(input):
        with torch.enable_grad():
            inputs = [t.detach().requires_grad_() for t in (input, weight, offset, mask)]
            output = _convolve_tensors(*inputs, geometry, groups, deformable_groups)
        return torch.autograd.grad(output, inputs, grad_output.view_as(output))
    kernels = _kernels(weight, groups)
    grad_kernels = torch.zeros_like(kernels)
    of_samples = []
    arrays = _samples(input, offset, mask, deformable_groups)
    for (image, *positions), gradient in zip(arrays, torch.from_numpy(to_array(grad_output))):
        gradient = gradient.reshape(groups, len(weight) // groups, -1)
        columns = _in_groups(_columns(image, positions, geometry), groups)
        grad_kernels += torch.einsum('gop,pkgc->gock', gradient, columns)
        if of_weight_only:
            continue
        grad_columns = torch.einsum('gop,gock->pkgc', gradient, kernels).flatten(2)
        grad_columns = grad_columns.contiguous().numpy()
        grad_image = np.zeros_like(image)
        in_threads(
            image.shape[2], _add_to_image, grad_columns, *positions, _flat(geometry), grad_image
        )
        of_positions = [np.zeros_like(array) for array in positions]
        num_positions = len(grad_columns)
        in_threads(
            num_positions, _slopes, image, grad_columns, *positions, _flat(geometry), *of_positions
        )
        of_samples.append([torch.from_numpy(a) for a in (grad_image, *of_positions)])
    grad_weight = grad_kernels.view(*weight.shape)
    if of_weight_only:
        return None, grad_weight, None, None
    grad_input, grad_offset, grad_mask = (torch.stack(tensors) for tensors in zip(*of_samples))
    return (
        grad_input.permute(0, 3, 1, 2),
        grad_weight,
        grad_offset.view(offset.shape),
        grad_mask.view(mask.shape),
    )


def _samples(
    input: Tensor, offset: Tensor, mask: Tensor, deformable_groups: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the image, the offsets and the mask of each sample.

    The image is (H, W, C), the channels of a pixel side by side, as they move together; the offsets
    are (deformable groups, taps, 2, H', W') and the mask is (deformable groups, taps, H', W').
    """
    batch, _, *size = offset.shape
    images = to_array(input.permute(0, 2, 3, 1))
    offsets = to_array(offset).reshape(batch, deformable_groups, -1, 2, *size)
    masks = to_array(mask).reshape(batch, deformable_groups, -1, *size)
    yield from zip(images, offsets, masks)


def _kernels(weight: Tensor, groups: int) -> Tensor:
    """Return the weight as (groups, output channels, input channels, taps)."""
    out_channels, in_channels = weight.shape[:2]
    return torch.from_numpy(to_array(weight)).view(groups, out_channels // groups, in_channels, -1)


def _in_groups(columns: Tensor, groups: int) -> Tensor:
    return columns.unflatten(2, (groups, -1))


def _flat(geometry: _Geometry) -> tuple[int, ...]:
    return (*geometry.kernel, *geometry.stride, *geometry.padding, *geometry.dilation)


def _columns(image: np.ndarray, positions: list[np.ndarray], geometry: _Geometry) -> Tensor:
    """Return what each tap reads at each position, (H' * W', taps, C)."""
    _, taps, height, width = positions[1].shape
    columns = np.zeros((height * width, taps, image.shape[2]), dtype=image.dtype)
    in_threads(height * width, _sample, image, *positions, _flat(geometry), columns)
    return torch.from_numpy(columns)


@compiled()
def _position(
    offsets: np.ndarray, geometry: tuple[int, ...], group: int, tap: int, row: int, column: int
) -> tuple[float, float]:
    """Where in the image a tap reads, as row and column in the precision of the offsets."""
    _, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w = geometry
    y = offsets.dtype.type(row * stride_h - pad_h + tap // kernel_w * dilation_h)
    x = offsets.dtype.type(column * stride_w - pad_w + tap % kernel_w * dilation_w)
    return y + offsets[group, tap, 0, row, column], x + offsets[group, tap, 1, row, column]


@compiled(fastmath=True)
def _sample(
    image: np.ndarray,
    offsets: np.ndarray,
    mask: np.ndarray,
    geometry: tuple[int, ...],
    columns: np.ndarray,
    first: int,
    last: int,
) -> None:
    height, width, channels = image.shape
    groups, taps, _, out_width = mask.shape
    for position in range(first, last):
        i, j = position // out_width, position % out_width
        for group in range(groups):
            begin, end = group * channels // groups, (group + 1) * channels // groups
            for tap in range(taps):
                y, x = _position(offsets, geometry, group, tap, i, j)
                if not (-1 < y < height and -1 < x < width):
                    continue
                top, left = int(np.floor(y)), int(np.floor(x))
                for corner in range(4):
                    row, column = top + corner // 2, left + corner % 2
                    if 0 <= row < height and 0 <= column < width:
                        share = image.dtype.type(
                            mask[group, tap, i, j] * (1 - abs(y - row)) * (1 - abs(x - column))
                        )
                        for channel in range(begin, end):
                            columns[position, tap, channel] += share * image[row, column, channel]


@compiled(fastmath=True)
def _add_to_image(
    grad_columns: np.ndarray,
    offsets: np.ndarray,
    mask: np.ndarray,
    geometry: tuple[int, ...],
    grad_image: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Add to the gradient of the image, for some of its channels."""
    height, width, channels = grad_image.shape
    groups, taps, out_height, out_width = mask.shape
    for position in range(out_height * out_width):
        i, j = position // out_width, position % out_width
        for group in range(groups):
            begin = max(first, group * channels // groups)
            end = min(last, (group + 1) * channels // groups)
            for tap in range(taps):
                y, x = _position(offsets, geometry, group, tap, i, j)
                if begin >= end or not (-1 < y < height and -1 < x < width):
                    continue
                top, left = int(np.floor(y)), int(np.floor(x))
                for corner in range(4):
                    row, column = top + corner // 2, left + corner % 2
                    if 0 <= row < height and 0 <= column < width:
                        share = grad_image.dtype.type(
                            mask[group, tap, i, j] * (1 - abs(y - row)) * (1 - abs(x - column))
                        )
                        for channel in range(begin, end):
                            grad_image[row, column, channel] += (
                                share * grad_columns[position, tap, channel]
                            )


@compiled(fastmath=True)
def _slopes(
    image: np.ndarray,
    grad_columns: np.ndarray,
    offsets: np.ndarray,
    mask: np.ndarray,
    geometry: tuple[int, ...],
    grad_offsets: np.ndarray,
    grad_mask: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Fill the gradients of offsets and mask for some positions."""
    height, width, channels = image.shape
    groups, taps, _, out_width = mask.shape
    for position in range(first, last):
        i, j = position // out_width, position % out_width
        for group in range(groups):
            begin, end = group * channels // groups, (group + 1) * channels // groups
            for tap in range(taps):
                y, x = _position(offsets, geometry, group, tap, i, j)
                if not (-1 < y < height and -1 < x < width):
                    continue
                top, left = int(np.floor(y)), int(np.floor(x))
                sampled, slope_y, slope_x = 0.0, 0.0, 0.0
                for corner in range(4):
                    row, column = top + corner // 2, left + corner % 2
                    if not (0 <= row < height and 0 <= column < width):
                        continue
                    product = image.dtype.type(0)
                    for channel in range(begin, end):
                        product += (
                            grad_columns[position, tap, channel] * image[row, column, channel]
                        )
                    share_y, share_x = 1 - abs(y - row), 1 - abs(x - column)
                    sampled += share_y * share_x * product
                    # A lower or right corner gains as the position moves to it, others lose.
                    slope_y += share_x * product * (2 * (corner // 2) - 1)
                    slope_x += share_y * product * (2 * (corner % 2) - 1)
                grad_mask[group, tap, i, j] = sampled
                grad_offsets[group, tap, 0, i, j] = mask[group, tap, i, j] * slope_y
                grad_offsets[group, tap, 1, i, j] = mask[group, tap, i, j] * slope_x


def _convolve_tensors(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor,
    geometry: _Geometry,
    groups: int,
    deformable_groups: int,
) -> Tensor:
    """Compute the same on any device, differentiable."""
    convolve = torchvision_operator()
    if convolve is None:
        return _convolve_by_grid_sample(
            input, weight, offset, mask, geometry, groups, deformable_groups
        )
    sizes = geometry.stride, geometry.padding, geometry.dilation
    return convolve(input, offset, weight, None, *sizes, mask)


@lru_cache(maxsize=1)
def torchvision_operator() -> Callable[..., Tensor] | None:
    """Return torchvision's deformable convolution, or None without a torchvision that works."""
    try:
        from torchvision.ops import deform_conv2d
    except (ImportError, RuntimeError):  # Absent, or made for another torch.
        return None
    return deform_conv2d


def _convolve_by_grid_sample(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor,
    geometry: _Geometry,
    groups: int,
    deformable_groups: int,
) -> Tensor:
    """Compute the same with ``grid_sample``.

    It scales and so rounds coordinates: at the center of a cell, the gradient of an offset is that
    to either side.
    """
    batch, channels, height, width = input.shape
    out_height, out_width = offset.shape[2:]
    taps = geometry.kernel[0] * geometry.kernel[1]
    start = []  # of each tap and output cell, without offset: (taps, H' or 1, W' or 1)
    for axis, size in enumerate((out_height, out_width)):
        cell = torch.arange(size, device=input.device) * geometry.stride[axis]
        tap = torch.arange(geometry.kernel[axis], device=input.device) * geometry.dilation[axis]
        start.append((tap[:, None] + cell - geometry.padding[axis]).to(offset.dtype))
    rows = start[0].repeat_interleave(geometry.kernel[1], 0)[:, :, None]
    columns = start[1].repeat(geometry.kernel[0], 1)[:, None]
    offset = offset.reshape(batch * deformable_groups, taps, 2, out_height, out_width)
    grid = torch.stack(
        (
            (2 * (offset[:, :, 1] + columns) + 1) / width - 1,
            (2 * (offset[:, :, 0] + rows) + 1) / height - 1,
        ),
        -1,
    )
    samples = functional.grid_sample(
        input.reshape(batch * deformable_groups, -1, height, width),
        grid.flatten(1, 2),
        mode='bilinear',
        padding_mode='zeros',
        align_corners=False,
    ).unflatten(2, (taps, out_height))
    samples = samples * mask.reshape(batch * deformable_groups, 1, taps, out_height, out_width)
    samples = samples.reshape(batch, groups, channels // groups, taps, out_height * out_width)
    kernels = weight.reshape(groups, len(weight) // groups, channels // groups, taps)
    output = torch.einsum('bgckp,gock->bgop', samples, kernels)
    return output.reshape(batch, len(weight), out_height, out_width)
