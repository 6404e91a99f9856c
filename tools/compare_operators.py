"""Compare the operators of mmcv_operators with mmcv's compiled ones: results and time.

    python tools/compare_operators.py [--threads N] [--only NAME ...]

It needs an mmcv with compiled operators. Where this has none for CPUs, the comparison is with
another implementation, which the table names. Both take turns; times are medians, and so is the
ratio of each turn's two. For one thread they are processor times, which other work on the machine
hardly changes; for several they are times of the clock on the wall.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from types import ModuleType
from typing import Any, Callable, NamedTuple, Sequence

import torch
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

import mmcv_operators
from mmcv_operators import extension

# The ranges of the full-size teachers and of the quickstart's.
FULL_RANGE = torch.tensor([-51.2, -51.2, -5.0, 51.2, 51.2, 3.0])
QUICKSTART_RANGE = torch.tensor([-40.0, -40.0, -5.0, 40.0, 40.0, 3.0])


class Filled(NamedTuple):
    """An argument that the operator fills: a new tensor in each call."""

    shape: Sequence[int]
    dtype: torch.dtype = torch.float32
    value: float = 0


class StandIn(NamedTuple):
    """What to compare with where no compiled operator runs."""

    name: str
    # Called with the compiled extension and all arguments but those to be filled.
    compute: Callable[..., Any]


class Case(NamedTuple):
    """An operator at one size."""

    operator: str
    size: str
    arguments: list
    options: dict[str, Any] = {}
    stand_in: StandIn | None = None


def voxelization_cases() -> list[Case]:
    def cloud(count: int, reach: float) -> Tensor:
        """Dense near the sensor and sparse far away, as a sweep is."""
        distance = reach * torch.rand(count, 1) ** 2
        angle = 6.2832 * torch.rand(count, 1)
        plane = torch.cat((distance * angle.cos(), distance * angle.sin()), 1)
        return torch.cat((plane, torch.rand(count, 1) * 6 - 4, torch.rand(count, 2)), 1)

    full, small = cloud(180_000, 75), cloud(20_000, 45)
    cases = []
    for points, bounds, edges, max_points, max_voxels in (
        (full, FULL_RANGE, [0.1, 0.1, 0.2], 10, 90_000),
        (full, FULL_RANGE, [0.1, 0.1, 0.2], 10, 120_000),
        (full, FULL_RANGE, [0.1, 0.1, 0.2], 10, 20_000),
        (full, FULL_RANGE, [0.2, 0.2, 8.0], 20, 30_000),
        (small, QUICKSTART_RANGE, [0.625, 0.625, 8.0], 12, 8_000),
    ):
        filled = [
            Filled((max_voxels, max_points, 5)),
            Filled((max_voxels, 3), torch.int32),
            Filled((max_voxels,), torch.int32),
            Filled((), torch.int64),
        ]
        limits = dict(max_points=max_points, max_voxels=max_voxels, NDim=3, deterministic=True)
        cases.append(
            Case(
                'hard_voxelize_forward',
                f'{len(points):,} points, {edges[0]} m, at most {max_voxels:,} voxels',
                [points, torch.tensor(edges), bounds, *filled],
                limits,
            )
        )
    arguments = [
        full,
        torch.tensor([0.1, 0.1, 0.2]),
        FULL_RANGE,
        Filled((len(full), 3), torch.int32),
    ]
    return [*cases, Case('dynamic_voxelize_forward', '180,000 points', arguments, dict(NDim=3))]


def scatter_cases() -> list[Case]:
    """Compared with the way that mmcv goes on GPUs, in PyTorch."""

    def forward(_: ModuleType, feats: Tensor, coors: Tensor, reduce_type: str) -> list[Tensor]:
        coors = coors.masked_fill((coors < 0).any(1, keepdim=True), -1)
        cells, voxel, count = coors.unique(dim=0, return_inverse=True, return_counts=True)
        values = feats.new_zeros(len(cells), feats.size(1)).scatter_reduce(
            *(0, voxel[:, None].expand_as(feats), feats, dict(max='amax').get(reduce_type, 'mean')),
            include_self=False,
        )
        return [values[1:], cells[1:], voxel.int() - 1, count[1:].int()]

    def backward(
        _: ModuleType, gradient: Tensor, feats: Tensor, values: Tensor, voxel: Tensor, *rest: Any
    ) -> list[Tensor]:
        leaf = feats.clone().requires_grad_()
        place = torch.where(voxel < 0, len(values), voxel).long()[:, None].expand_as(feats)
        reduced = leaf.new_zeros(len(values) + 1, feats.size(1)).scatter_reduce(
            *(0, place, leaf, dict(max='amax').get(rest[-1], 'mean')), include_self=False
        )
        return list(torch.autograd.grad(reduced[:-1], leaf, gradient))

    feats = torch.randn(180_000, 64)
    coors = torch.randint(-2, 256, (180_000, 3)).int()
    coors[:, 0] = 0
    cases = []
    for reduce_type in ('max', 'mean'):
        size = f'180,000 points, 64 channels, {reduce_type}'
        arguments = [feats, coors, reduce_type]
        values, _, voxel, count = extension.dynamic_point_to_voxel_forward(*arguments)
        arguments_back = [
            Filled(feats.shape),
            torch.randn_like(values),
            feats,
            values,
            voxel,
            count,
        ]
        cases += [
            Case(
                *('dynamic_point_to_voxel_forward', size, arguments),
                stand_in=StandIn('PyTorch', forward),
            ),
            Case(
                *('dynamic_point_to_voxel_backward', size, [*arguments_back, reduce_type]),
                stand_in=StandIn('PyTorch, with forward', backward),
            ),
        ]
    return cases


def attention_cases() -> list[Case]:
    def forward(
        _: ModuleType, value: Tensor, shapes: Tensor, starts: Tensor, *rest: Tensor, **__: int
    ) -> Tensor:
        return multi_scale_deformable_attn_pytorch(value, shapes, *rest)

    def backward(
        _: ModuleType, value: Tensor, shapes: Tensor, starts: Tensor, *rest: Tensor, **__: int
    ) -> tuple[Tensor, ...]:
        locations, weights, gradient = rest
        leaves = [t.clone().requires_grad_() for t in (value, locations, weights)]
        output = multi_scale_deformable_attn_pytorch(leaves[0], shapes, *leaves[1:])
        return torch.autograd.grad(output, leaves, gradient)

    cases = []
    for name, batch, queries, heads, channels, points, levels in (
        ('quickstart, spatial', 6, 600, 4, 16, 4, [(28, 50), (14, 25), (7, 13)]),
        ('quickstart, temporal', 1, 2304, 4, 16, 4, [(48, 48)]),
        ('teacher, encoder', 1, 16_384, 8, 32, 4, [(128, 128)]),
        ('teacher, decoder', 1, 900, 8, 32, 4, [(128, 128)]),
    ):
        shapes = torch.tensor(levels)
        starts = torch.cat((shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]))
        value = torch.randn(batch, int(shapes.prod(1).sum()), heads, channels)
        # Away from the centers of cells, where the slope depends on the last bit.
        sizes = shapes.flip(1)[:, None]
        cells = (torch.rand(batch, queries, heads, len(levels), points, 2) * (sizes + 2)).floor()
        locations = (cells + 0.9 * (torch.rand(cells.shape) - 0.5)) / sizes
        weights = torch.rand(locations.shape[:-1])
        arguments = [value, shapes, starts, locations, weights]
        filled = [Filled(t.shape) for t in (value, locations, weights)]
        gradient = torch.randn(batch, queries, heads * channels)
        options = dict(im2col_step=64)
        cases += [
            Case(
                *('ms_deform_attn_forward', name, arguments, options),
                StandIn("mmcv's PyTorch version", forward),
            ),
            Case(
                *('ms_deform_attn_backward', name, [*arguments, gradient, *filled], options),
                StandIn('the same, with forward', backward),
            ),
        ]
    return cases


def convolution_cases() -> list[Case]:
    cases = []
    axes = dict(kernel=3, stride=1, pad=1, dilation=1)
    modulated = {f'{key}_{axis}': number for key, number in axes.items() for axis in 'hw'}
    modulated.update(group=1, deformable_group=1, with_bias=True)
    axes = dict(k=3, d=1, pad=1, dilation=1)
    plain = {f'{key}{axis}': number for key, number in axes.items() for axis in 'HW'}
    plain.update(group=1, deformable_group=1, im2col_step=1)
    none = torch.empty(0)
    for channels, height, width in ((64, 50, 80), (256, 29, 50)):
        image = torch.randn(1, channels, height, width)
        weight, bias = torch.randn(channels, channels, 3, 3) / 50, torch.randn(channels)
        offset, mask = torch.randn(1, 18, height, width), torch.rand(1, 9, height, width)
        result, gradient = Filled(image.shape), torch.randn_like(image)
        inputs = (image, weight, bias, none, offset, mask)
        filled = [Filled(t.shape) for t in (image, weight, bias, offset, mask)]
        by_input = [Filled(image.shape), Filled(offset.shape)]
        size = f'{channels} channels, {height} x {width}'
        cases += [
            Case('modulated_deform_conv_forward', size, [*inputs, result, none], modulated),
            Case(
                *('modulated_deform_conv_backward', size, [*inputs, none, *filled, gradient]),
                modulated,
            ),
            Case('deform_conv_forward', size, [image, weight, offset, result, none, none], plain),
            Case(
                *('deform_conv_backward_input', size),
                *([image, offset, gradient, *by_input, weight, none], plain),
            ),
            Case(
                *('deform_conv_backward_parameters', size),
                [image, offset, gradient, Filled(weight.shape), none, none],
                dict(plain, scale=1.0),
            ),
        ]
    return cases


def focal_loss_cases() -> list[Case]:
    """Compared with the formulas of the losses, differentiated by PyTorch."""

    def sigmoid(
        _: ModuleType, logits: Tensor, target: Tensor, __: Tensor, gamma: float, alpha: float
    ) -> Tensor:
        is_target = functional.one_hot(target, logits.size(1) + 1)[:, :-1].to(logits.dtype)
        cross_entropy = functional.binary_cross_entropy_with_logits(
            logits, is_target, reduction='none'
        )
        wrong = torch.where(is_target > 0, -logits, logits).sigmoid()
        return (alpha * is_target + (1 - alpha) * (1 - is_target)) * wrong**gamma * cross_entropy

    def sigmoid_slope(_: ModuleType, logits: Tensor, *rest: Tensor, **options: float) -> Tensor:
        leaf = logits.clone().requires_grad_()
        return torch.autograd.grad(sigmoid(_, leaf, *rest, **options).sum(), leaf)[0]

    def softmax(
        _: ModuleType, odds: Tensor, target: Tensor, __: Tensor, gamma: float, alpha: float
    ) -> Tensor:
        hit = odds[torch.arange(len(odds)), target]
        return -alpha * (1 - hit) ** gamma * hit.log()

    def softmax_slope(
        _: ModuleType, odds: Tensor, *rest: Tensor, **options: float
    ) -> tuple[Tensor, Tensor]:
        leaf = odds.log().requires_grad_()
        losses = softmax(_, leaf.softmax(1), *rest, **options)
        hit = odds[torch.arange(len(odds)), rest[0]]
        slopes = torch.autograd.grad(losses.sum(), leaf)[0]
        return slopes[torch.arange(len(odds)), rest[0]] / (1 - hit), slopes

    logits, target = torch.randn(100_000, 10), torch.randint(0, 10, (100_000,))
    odds, none, options = logits.softmax(1), torch.empty(0), dict(gamma=2.0, alpha=0.25)
    size, of_rows = '100,000 x 10', Filled(target.shape)
    of_scores = Filled(logits.shape)
    return [
        Case(f'{name}_focal_loss_{direction}', size, [*inputs, none, *filled], options, stand_in)
        for name, direction, inputs, filled, stand_in in (
            ('sigmoid', 'forward', (logits, target), [of_scores], StandIn('PyTorch', sigmoid)),
            (
                *('sigmoid', 'backward', (logits, target), [of_scores]),
                StandIn('PyTorch, with forward', sigmoid_slope),
            ),
            ('softmax', 'forward', (odds, target), [of_rows], StandIn('PyTorch', softmax)),
            (
                *('softmax', 'backward', (odds, target), [of_rows, of_scores]),
                StandIn('PyTorch, with forward', softmax_slope),
            ),
        )
    ]


def box_cases() -> list[Case]:
    """What has no compiled operator for CPUs is compared with one that has and tells the same."""

    def overlaps(compiled: ModuleType, boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
        first, second = (boxes[:, [0, 1, 3, 4, 6]].contiguous() for boxes in (boxes_a, boxes_b))
        ious = torch.zeros(len(first) * len(second))
        compiled.box_iou_rotated(first, second, ious, mode_flag=1, aligned=False)
        return ious.view(len(first), -1) * (first[:, 2:3] * first[:, 3:4])

    def filled_like(boxes: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        return functional.pad(kept, (0, len(boxes) - len(kept))), torch.tensor(len(kept))

    def turned(compiled: ModuleType, boxes: Tensor, nms_overlap_thresh: float) -> tuple:
        falling = torch.linspace(1, 0, len(boxes))
        rectangles = boxes[:, [0, 1, 3, 4, 6]].contiguous()
        none, order = torch.empty(0), torch.arange(len(boxes))
        kept = compiled.nms_rotated(
            *(rectangles, falling, order, rectangles, none, nms_overlap_thresh, False)
        )
        return filled_like(boxes, kept)

    def upright(compiled: ModuleType, boxes: Tensor, nms_overlap_thresh: float) -> tuple:
        corners = torch.cat((boxes[:, :2] - boxes[:, 3:5] / 2, boxes[:, :2] + boxes[:, 3:5] / 2), 1)
        falling = torch.linspace(1, 0, len(boxes))
        kept = compiled.nms(corners, falling, iou_threshold=nms_overlap_thresh, offset=0)
        return filled_like(boxes, kept)

    def inside(compiled: ModuleType, boxes: Tensor, points: Tensor) -> Tensor:
        result = torch.zeros(boxes.size(1), points.size(1), dtype=torch.int32)
        compiled.points_in_boxes_cpu_forward(boxes[0], points[0], result)
        return result.T[None]

    def first_box(compiled: ModuleType, boxes: Tensor, points: Tensor) -> Tensor:
        result = inside(compiled, boxes, points)
        return torch.where(result.any(2), result.argmax(2), -1).int()

    boxes = torch.rand(1000, 7) * torch.tensor([100, 100, 2, 5, 3, 2, 6.3])
    rectangles, scores = boxes[:, [0, 1, 3, 4, 6]].contiguous(), torch.rand(1000)
    some, some_rectangles = boxes[:300].contiguous(), rectangles[:300].contiguous()
    corners = torch.rand(1000, 2) * 200
    corners = torch.cat((corners, corners + torch.rand(1000, 2) * 30), 1)
    order = scores.sort(0, descending=True)[1]
    points = torch.rand(180_000, 3) * torch.tensor([100, 100, 4.0])
    few = boxes[:50].contiguous()
    pairs, membership = Filled((300 * 300,)), Filled((50, len(points)), torch.int32)
    kept = [Filled((1000,), torch.int64), Filled((), torch.int64)]
    threshold = dict(nms_overlap_thresh=0.2)
    in_boxes = 'compiled points_in_boxes_cpu_forward'
    return [
        Case(
            *('box_iou_rotated', '300 x 300', [some_rectangles, some_rectangles, pairs]),
            dict(mode_flag=0, aligned=False),
        ),
        Case(
            *('iou3d_boxes_overlap_bev_forward', '300 x 300', [some, some, Filled((300, 300))]),
            stand_in=StandIn('compiled box_iou_rotated', overlaps),
        ),
        Case('nms', '1,000 boxes', [corners, scores], dict(iou_threshold=0.5, offset=0)),
        Case(
            *('nms_rotated', '1,000 boxes'),
            [rectangles, scores, order, rectangles[order], torch.empty(0).int(), 0.2, False],
        ),
        Case(
            *('iou3d_nms3d_forward', '1,000 boxes', [boxes, *kept], threshold),
            StandIn('compiled nms_rotated', turned),
        ),
        Case(
            *('iou3d_nms3d_normal_forward', '1,000 boxes', [boxes, *kept], threshold),
            StandIn('compiled nms', upright),
        ),
        Case('points_in_boxes_cpu_forward', '180,000 points, 50 boxes', [few, points, membership]),
        Case(
            *('points_in_boxes_all_forward', '180,000 points, 50 boxes'),
            [few[None], points[None], Filled((1, len(points), 50), torch.int32)],
            stand_in=StandIn(in_boxes, inside),
        ),
        Case(
            *('points_in_boxes_part_forward', '180,000 points, 50 boxes'),
            [few[None], points[None], Filled((1, len(points)), torch.int32, -1)],
            stand_in=StandIn(in_boxes, first_box),
        ),
    ]


def timed(function: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[float, Any]:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    began = clock()
    result = function(*arguments, **options)
    return clock() - began, result


def run(extension: ModuleType, case: Case) -> tuple[float, list[Tensor]]:
    """Return the seconds that one call takes and all that it returns and fills."""
    arguments = [
        torch.full(tuple(argument.shape), argument.value, dtype=argument.dtype)
        if isinstance(argument, Filled)
        else argument
        for argument in case.arguments
    ]
    filled = [new for new, old in zip(arguments, case.arguments) if isinstance(old, Filled)]
    seconds, result = timed(getattr(extension, case.operator), *arguments, **case.options)
    return seconds, [*as_list(result), *filled]


def run_other(compiled: ModuleType, case: Case) -> tuple[float, list[Tensor]]:
    if case.stand_in is None:
        return run(compiled, case)
    given = [argument for argument in case.arguments if not isinstance(argument, Filled)]
    seconds, result = timed(case.stand_in.compute, compiled, *given, **case.options)
    return seconds, as_list(result)


def as_list(result: Any) -> list[Tensor]:
    if result is None or isinstance(result, Tensor):
        return [] if result is None else [result]
    return list(result)


def describe_error(got: list[Tensor], expected: list[Tensor]) -> str:
    """Say how far results are apart, relative to the largest value of each."""
    if all(map(torch.equal, got, expected)):
        return 'equal'
    error = 0.0
    for tensor, other in zip(got, expected):
        if tensor.shape != other.shape:
            return f'{tuple(tensor.shape)}, not {tuple(other.shape)}'
        difference = (tensor.double() - other.double()).abs()
        error = max(error, float(difference.max() / other.double().abs().max().clamp(min=1e-30)))
    return f'{error:.0e}'


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--threads', type=int, default=1, help='of PyTorch and of the loops')
    parser.add_argument('--repetitions', type=int, default=7)
    parser.add_argument('--only', nargs='+', default=[''], metavar='NAME', help='parts of names')
    options = parser.parse_args(arguments)
    if mmcv_operators.is_used():
        sys.exit('error: this mmcv has no compiled operators to compare with')
    compiled = importlib.import_module('mmcv._ext')
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    cases = [
        case
        for make_cases in (
            *(voxelization_cases, scatter_cases, attention_cases, convolution_cases),
            *(focal_loss_cases, box_cases),
        )
        for case in make_cases()
        if any(part in case.operator for part in options.only)
    ]
    table = Table(box=SIMPLE_HEAD)
    for name in ('operator', 'size', 'compared with', 'error', 'its ms', 'our ms', 'ratio'):
        table.add_column(name, justify='right' if name.endswith(('ms', 'ratio')) else 'left')
    for case in cases:
        (_, expected), (_, got) = run_other(compiled, case), run(extension, case)
        turns = [
            (run_other(compiled, case)[0], run(extension, case)[0])
            for _ in range(options.repetitions)
        ]
        other, ours = (statistics.median(seconds) for seconds in zip(*turns))
        ratio = statistics.median(own / its for its, own in turns)
        table.add_row(
            *(case.operator, case.size, case.stand_in.name if case.stand_in else 'compiled'),
            describe_error(got, expected),
            *(f'{other * 1e3:.2f}', f'{ours * 1e3:.2f}', f'{ratio:.2f}'),
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == '__main__':
    main()
