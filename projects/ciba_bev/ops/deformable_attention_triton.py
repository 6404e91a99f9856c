"""Deformable attention for CUDA tensors, as Triton kernels.

A program works on a few queries of one (sample, head) pair and holds one row of channels for each.
Values are read in their own dtype (bfloat16 halves the traffic); positions and sums are float32.
The gradient of the value is added up in float32, by atomic additions, whose order changes from run
to run. Under ``torch.use_deterministic_algorithms`` the contributions are sorted by cell instead
and each cell adds up its own, which takes 20 bytes for each of the four corners of every sample.
"""

# Kernels annotate what is constant at compile time, and write sizes as the shapes below do.
# ruff: noqa: ANN001, ANN202, N803

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .constants import constant_tensor
from .pyramid import level_starts

CORNERS = 4
# How many queries a camera sees changes from frame to frame; it must not compile a kernel anew.
CHANGING = ['S', 'Q']
# Contributions that a program of the deterministic path adds up at once.
CONTRIBUTIONS = 16


class TritonAttention(Function):
    """Compute :func:`ciba_bev.ops.deformable_attention` on a GPU.

    Value, locations and weights are each float32, float16 or bfloat16.
    """

    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        spatial_shapes: tuple[tuple[int, int], ...],
        sampling_locations: Tensor,
        weights: Tensor,
    ) -> Tensor:
        """Return (B, Q, heads * channels), in the dtype of ``value``."""
        tensors = [tensor.contiguous() for tensor in (value, sampling_locations, weights)]
        ctx.save_for_backward(*tensors)
        ctx.spatial_shapes = spatial_shapes
        value, sampling_locations, weights = tensors
        batch, queries, heads = weights.shape[:3]
        output = value.new_empty(batch, queries, heads * value.size(-1))
        if not weights.numel() or not value.numel():
            return output.zero_()
        with torch.cuda.device_of(value):
            _forward[_grid](
                value,
                sampling_locations,
                weights,
                output,
                **_levels(spatial_shapes, value.device),
                **_sizes(value, weights),
            )
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of value, locations and weights, each in its shape and dtype."""
        value, sampling_locations, weights = ctx.saved_tensors
        grad_locations = torch.zeros_like(sampling_locations)
        grad_weights = torch.zeros_like(weights)
        if not weights.numel() or not value.numel():
            return torch.zeros_like(value), None, grad_locations, grad_weights
        grad_output = grad_output.contiguous()
        sizes = _sizes(value, weights)
        deterministic = torch.are_deterministic_algorithms_enabled()
        cells: Tensor | None = None
        shares: Tensor | None = None
        # Not used if deterministic: the kernel then notes where each contribution goes.
        added: Tensor | None = None
        if deterministic:
            contributions = (*weights.transpose(1, 2).shape, CORNERS)
            cells = weights.new_empty(contributions, dtype=torch.int32)
            shares = weights.new_empty(contributions, dtype=torch.float32)
        else:
            added = torch.zeros_like(value, dtype=torch.float32)
        with torch.cuda.device_of(value):
            _backward[_grid](
                value,
                sampling_locations,
                weights,
                grad_output,
                added,
                grad_locations,
                grad_weights,
                cells,
                shares,
                **_levels(ctx.spatial_shapes, value.device),
                DETERMINISTIC=deterministic,
                **sizes,
            )
            if cells is not None and shares is not None:
                added = _add_by_cell(cells, shares, grad_output, value, sizes)
        grad_value = None if added is None else added.to(value.dtype)
        return grad_value, None, grad_locations, grad_weights


def _add_by_cell(
    cells: Tensor, shares: Tensor, grad_output: Tensor, value: Tensor, sizes: dict[str, int]
) -> Tensor:
    """Return the gradient of the value; cells add up their contributions in the order of queries.

    Args:
        cells: Where each contribution goes, (B, heads, Q, levels, points, 4); the number of cells
            for those that fall outside.
        shares: Their factors, of the same shape.
        grad_output: (B, Q, heads * channels).
        value: (B, S, heads, channels).
        sizes: What ``_sizes`` returns.

    Returns:
        (B, S, heads, channels), in the dtype of ``value``.
    """
    pairs, num_cells = cells.size(0) * cells.size(1), value.size(1)
    cells, order = cells.view(pairs, -1).sort(dim=1, stable=True)
    borders = torch.arange(num_cells + 1, dtype=cells.dtype, device=cells.device)
    bounds = torch.searchsorted(cells, borders.expand(pairs, -1).contiguous())
    grad_value = torch.empty_like(value)
    _add_contributions[(num_cells * pairs,)](
        order,
        shares,
        bounds,
        grad_output,
        grad_value,
        sizes['S'],
        sizes['Q'],
        sizes['H'],
        D=sizes['D'],
        LANES=sizes['LANES'],
        LP=sizes['L'] * sizes['P'],
        BLOCK=CONTRIBUTIONS,
        num_warps=1,
    )
    return grad_value


def _levels(spatial_shapes: tuple[tuple[int, int], ...], device: torch.device) -> dict[str, Tensor]:
    """Return height and width of each level, and its first cell, cached on the device."""
    return dict(
        shapes=constant_tensor(spatial_shapes, torch.int32, device),
        starts=constant_tensor(level_starts(spatial_shapes), torch.int32, device),
    )


def _sizes(value: Tensor, weights: Tensor) -> dict[str, int]:
    """Return the sizes of the problem, and how it is split between programs and warps."""
    batch, num_cells, heads, channels = value.shape
    queries, levels, points = weights.size(1), weights.size(3), weights.size(4)
    lanes = triton.next_power_of_2(channels)
    block = query_block(levels, lanes)
    return dict(
        S=num_cells,
        Q=queries,
        H=heads,
        B=batch,
        D=channels,
        LANES=lanes,
        L=levels,
        P=points,
        BLOCK=block,
        # 32-bit offsets within a sample save registers where they suffice.
        WIDE=value[0].numel() >= 2**31,
        num_warps=num_warps(block, lanes),
    )


def query_block(levels: int, lanes: int) -> int:
    """Return how many queries one program works on.

    The best of three splits tried on an H200 with 32 channels: 8 queries for a pyramid, 16 for a
    single level. Never one: Triton's interpreter broadcasts the mask of an atomic addition wrongly
    over a single row.
    """
    return max((256 if levels > 1 else 512) // lanes, 2)


def num_warps(block: int, lanes: int) -> int:
    """Return the warps of a program, so that a thread has four channels: 16 bytes of float32."""
    return min(max(block * lanes // 128, 1), 8)


def _grid(meta: dict[str, int]) -> tuple[int]:
    """Return the number of programs: blocks of queries, then (sample, head) pairs."""
    return (triton.cdiv(meta['Q'], meta['BLOCK']) * meta['B'] * meta['H'],)


@triton.jit
def _position(Q, H, BLOCK: tl.constexpr):
    """Return sample and head of this program, its queries, and which of them exist."""
    blocks = tl.cdiv(Q, BLOCK)
    pair = tl.program_id(0) // blocks
    query = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    return (pair // H).to(tl.int64), pair % H, query, query < Q


@triton.jit
def _channels(rows, D: tl.constexpr, LANES: tl.constexpr):
    """Return the offsets of the channels, and the mask of the rows broadcast over them."""
    channel = tl.arange(0, LANES)[None, :]
    mask = rows[:, None]
    # Without padding the mask is the same along a row, which keeps the accesses wide.
    if D != LANES:
        mask = mask & (channel < D)
    return channel, mask


@triton.jit
def _sample(locations, weights, index, exists, height, width):
    """Return the upper left cell of each sample, its offset from that cell, and its weight."""
    x = tl.load(locations + 2 * index, mask=exists, other=-9.0).to(tl.float32) * width - 0.5
    y = tl.load(locations + 2 * index + 1, mask=exists, other=-9.0).to(tl.float32) * height - 0.5
    weight = tl.load(weights + index, mask=exists, other=0.0).to(tl.float32)
    # Just outside counts the same as far outside, and does not overflow an integer.
    x = tl.minimum(tl.maximum(x, -2.0), width + 1.0)
    y = tl.minimum(tl.maximum(y, -2.0), height + 1.0)
    left, top = tl.floor(x), tl.floor(y)
    return left.to(tl.int32), top.to(tl.int32), x - left, y - top, weight


@triton.jit
def _corner(corner: tl.constexpr, left, top, right_share, lower_share, exists, height, width):
    """Return whether a corner of each sample is inside, its cell, and its shares along x and y."""
    column = left + corner % 2
    row = top + corner // 2
    inside = exists & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    share_x = right_share if corner % 2 else 1 - right_share
    share_y = lower_share if corner // 2 else 1 - lower_share
    return inside, row * width + column, share_x, share_y


@triton.jit
def _offset(cell, WIDE: tl.constexpr):
    """Return a cell index, in 64 bits if 32 cannot count the numbers of one sample's value."""
    if WIDE:
        cell = cell.to(tl.int64)
    return cell


@triton.jit(do_not_specialize=CHANGING)
def _forward(
    value,  # (B, S, H, D)
    locations,  # (B, Q, H, L, P, 2)
    weights,  # (B, Q, H, L, P)
    output,  # (B, Q, H, D)
    shapes,  # (L, 2) int32
    starts,  # (L,) int32
    S,
    Q,
    H,
    B,
    D: tl.constexpr,
    LANES: tl.constexpr,
    L: tl.constexpr,
    P: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE: tl.constexpr,
):
    sample, head, query, exists = _position(Q, H, BLOCK)
    total = tl.zeros([BLOCK, LANES], tl.float32)
    values = value + sample * S * H * D + head * D
    row = (sample * Q + query) * H + head
    for level in range(L):
        height = tl.load(shapes + 2 * level)
        width = tl.load(shapes + 2 * level + 1)
        start = tl.load(starts + level)
        for point in range(P):
            index = row * (L * P) + level * P + point
            left, top, right_share, lower_share, weight = _sample(
                locations, weights, index, exists, height, width
            )
            for corner in tl.static_range(4):
                inside, cell, share_x, share_y = _corner(
                    corner, left, top, right_share, lower_share, exists, height, width
                )
                channel, mask = _channels(inside, D, LANES)
                at = _offset(start + cell, WIDE) * (H * D)
                read = tl.load(values + at[:, None] + channel, mask=mask, other=0.0)
                total += (weight * share_x * share_y)[:, None] * read.to(tl.float32)
    channel, mask = _channels(exists, D, LANES)
    tl.store(output + row[:, None] * D + channel, total.to(output.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=CHANGING)
def _backward(
    value,  # (B, S, H, D)
    locations,  # (B, Q, H, L, P, 2)
    weights,  # (B, Q, H, L, P)
    grad_output,  # (B, Q, H, D)
    grad_value,  # (B, S, H, D) float32 zeros; None if deterministic
    grad_locations,
    grad_weights,
    cells,  # (B, H, Q, L, P, 4) int32 if deterministic, else None
    shares,  # (B, H, Q, L, P, 4) float32 if deterministic, else None
    shapes,  # (L, 2) int32
    starts,  # (L,) int32
    S,
    Q,
    H,
    B,
    D: tl.constexpr,
    LANES: tl.constexpr,
    L: tl.constexpr,
    P: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE: tl.constexpr,
    DETERMINISTIC: tl.constexpr,
):
    sample, head, query, exists = _position(Q, H, BLOCK)
    values = value + sample * S * H * D + head * D
    if not DETERMINISTIC:
        grad_values = grad_value + sample * S * H * D + head * D
    row = (sample * Q + query) * H + head
    channel, mask = _channels(exists, D, LANES)
    gradient = tl.load(grad_output + row[:, None] * D + channel, mask=mask, other=0.0)
    gradient = gradient.to(tl.float32)
    for level in range(L):
        height = tl.load(shapes + 2 * level)
        width = tl.load(shapes + 2 * level + 1)
        start = tl.load(starts + level)
        for point in range(P):
            index = row * (L * P) + level * P + point
            left, top, right_share, lower_share, weight = _sample(
                locations, weights, index, exists, height, width
            )
            sampled = tl.zeros([BLOCK], tl.float32)
            slope_x = tl.zeros([BLOCK], tl.float32)
            slope_y = tl.zeros([BLOCK], tl.float32)
            for corner in tl.static_range(4):
                inside, cell, share_x, share_y = _corner(
                    corner, left, top, right_share, lower_share, exists, height, width
                )
                channel, mask = _channels(inside, D, LANES)
                at = _offset(start + cell, WIDE) * (H * D)
                read = tl.load(values + at[:, None] + channel, mask=mask, other=0.0)
                product = tl.sum(gradient * read.to(tl.float32), axis=1)
                sampled += share_x * share_y * product
                # The share grows towards a right or lower corner, and falls away from the others.
                slope_x += (share_y if corner % 2 else -share_y) * product
                slope_y += (share_x if corner // 2 else -share_x) * product
                share = weight * share_x * share_y
                if DETERMINISTIC:
                    entry = (sample * H + head) * Q + query
                    entry = (entry * (L * P) + level * P + point) * 4 + corner
                    tl.store(cells + entry, tl.where(inside, start + cell, S), mask=exists)
                    tl.store(shares + entry, share, mask=exists)
                else:
                    tl.atomic_add(
                        grad_values + at[:, None] + channel,
                        share[:, None] * gradient,
                        mask=mask,
                        sem='relaxed',
                    )
            kind = grad_weights.dtype.element_ty
            tl.store(grad_weights + index, sampled.to(kind), mask=exists)
            kind = grad_locations.dtype.element_ty
            slope_x, slope_y = weight * slope_x * width, weight * slope_y * height
            tl.store(grad_locations + 2 * index, slope_x.to(kind), mask=exists)
            tl.store(grad_locations + 2 * index + 1, slope_y.to(kind), mask=exists)


@triton.jit(do_not_specialize=CHANGING)
def _add_contributions(
    order,  # (B * H, N) int64: contributions, those to one cell together
    shares,  # (B, H, Q, L, P, 4) float32
    bounds,  # (B * H, S + 1) int64: where in `order` those of each cell begin
    grad_output,  # (B, Q, H, D)
    grad_value,  # (B, S, H, D)
    S,
    Q,
    H,
    D: tl.constexpr,
    LANES: tl.constexpr,
    LP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    cell = tl.program_id(0) % S
    pair = (tl.program_id(0) // S).to(tl.int64)
    sample, head = pair // H, pair % H
    first = tl.load(bounds + pair * (S + 1) + cell)
    last = tl.load(bounds + pair * (S + 1) + cell + 1)
    contributions = pair * Q * (LP * 4)
    total = tl.zeros([BLOCK, LANES], tl.float32)
    for position in range(first, last, BLOCK):
        index = position + tl.arange(0, BLOCK)
        exists = index < last
        entry = tl.load(order + contributions + index, mask=exists, other=0)
        share = tl.load(shares + contributions + entry, mask=exists, other=0.0)
        row = (sample * Q + entry // (LP * 4)) * H + head
        channel, mask = _channels(exists, D, LANES)
        gradient = tl.load(grad_output + row[:, None] * D + channel, mask=mask, other=0.0)
        total += share[:, None] * gradient.to(tl.float32)
    channel = tl.arange(0, LANES)
    at = ((sample * S + cell) * H + head) * D + channel
    kind = grad_value.dtype.element_ty
    tl.store(grad_value + at, tl.sum(total, axis=0).to(kind), mask=channel < D)
