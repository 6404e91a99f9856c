"""Compare this package's operators with compiled ones, as ``mmcv.ops`` calls them.

Every case is called and differentiated twice, with either extension behind ``mmcv.ops``, in turns.
Where mmcv has compiled an operator for GPUs only, the comparison is with another implementation,
which is named.
"""

from __future__ import annotations

import importlib
import itertools
import statistics
import sys
import time
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Callable, Iterator, NamedTuple, Sequence

import torch
from torch import Tensor
from torch.nn import functional

# x, y, length, width and yaw of a box (x, y, z, length, width, height, yaw).
_FROM_ABOVE = [0, 1, 3, 4, 6]


class Case(NamedTuple):
    """A call of a function of ``mmcv.ops``.

    Attributes:
        function: Its name.
        size: What it is given, for the table.
        inputs: Its arguments; those that require a gradient get one.
        other: What to compare with where no compiled operator runs on a CPU, called with the same
            arguments and the compiled operators.
        name: Of ``other``, for the table.
        call: How to call the function, if not as it is.
    """

    function: str
    size: str
    inputs: Sequence[Any]
    other: Callable[..., Any] | None = None
    name: str = 'compiled'
    call: Callable[..., Any] | None = None


class Row(NamedTuple):
    """How two implementations of an operator compare.

    Attributes:
        operator: Its name, with the direction.
        size: Of its arguments.
        compared_with: The other implementation.
        error: ``'equal'``, or the largest difference relative to the largest value.
        other_seconds: Median duration of the other one.
        seconds: Median duration of this package's.
        ratio: Median over the turns of the second duration over the first.
    """

    operator: str
    size: str
    compared_with: str
    error: str
    other_seconds: float
    seconds: float
    ratio: float


def compare(case: Case, compiled: ModuleType, repetitions: int) -> list[Row]:
    """Compare results and times, forward and, where there is a gradient, backward.

    Args:
        case: What to compute.
        compiled: mmcv's own extension.
        repetitions: Turns that count.

    Returns:
        One row or two. For one thread durations are processor times, which other work on the
        machine hardly changes; for several they are times on the clock.
    """
    from mmcv_operators import extension

    call = case.call or getattr(importlib.import_module('mmcv.ops'), case.function)
    ways = ((compiled, case.other or call), (extension, call))
    leaves = [v for v in case.inputs if isinstance(v, Tensor) and v.requires_grad]
    forward = [_in_turn(way, case.inputs) for way in ways]
    calls = [[(way, case.inputs) for way in ways]]
    results = [forward]
    if leaves:
        outputs = [[t for t in tensors if t.requires_grad] for tensors in forward]
        seeds = [torch.randn_like(t) for t in outputs[0]]
        backward = [
            ((module, torch.autograd.grad), (own, leaves, seeds, True))
            for (module, _), own in zip(ways, outputs)
        ]
        calls.append(backward)
        results.append([_in_turn(*arguments) for arguments in backward])
    rows = []
    for direction, pair, (expected, got) in zip(('forward', 'backward'), calls, results):
        turns = [[_seconds(*arguments) for arguments in pair] for _ in range(repetitions)]
        rows.append(
            Row(
                *(f'{case.function}, {direction}', case.size, case.name),
                _describe_error(got, expected),
                *(statistics.median(seconds) for seconds in zip(*turns)),
                statistics.median(own / other for other, own in turns),
            )
        )
    return rows


def _in_turn(way: tuple[ModuleType, Callable[..., Any]], inputs: Sequence[Any]) -> list[Tensor]:
    """Call a function while ``mmcv.ops`` uses an extension, and list the tensors it returns."""
    module, function = way
    with _used_by_mmcv(module):
        result = function(*inputs)
    return [result] if isinstance(result, Tensor) else list(result)


def _seconds(way: tuple[ModuleType, Callable[..., Any]], inputs: Sequence[Any]) -> float:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    began = clock()
    _in_turn(way, inputs)
    return clock() - began


@contextmanager
def _used_by_mmcv(extension: ModuleType) -> Iterator[None]:
    modules = [module for name, module in sys.modules.items() if name.startswith('mmcv.ops.')]
    saved = [(module, module.ext_module) for module in modules if hasattr(module, 'ext_module')]
    for module, _ in saved:
        module.ext_module = extension
    try:
        yield
    finally:
        for module, own in saved:
            module.ext_module = own


def _describe_error(got: Sequence[Tensor], expected: Sequence[Tensor]) -> str:
    """Say how far results are apart, relative to the largest value of each."""
    shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (got, expected)]
    if shapes[0] != shapes[1]:
        return f'{shapes[0]}, not {shapes[1]}'
    if all(map(torch.equal, got, expected)):
        return 'equal'
    error = 0.0
    for tensor, other in zip(got, expected):
        exact = other.detach().double()
        difference = (tensor.detach().double() - exact).abs().max()
        error = max(error, float(difference / exact.abs().max().clamp(min=1e-30)))
    return f'{error:.0e}'


def make_cases() -> list[Case]:
    """Make the cases: sizes of the detectors, full and small."""
    torch.manual_seed(0)
    makers = (_voxelization, _scattering, _attention, _convolution, _focal_loss, _boxes)
    return list(itertools.chain.from_iterable(maker() for maker in makers))


def _voxelization() -> Iterator[Case]:
    def cloud(count: int, reach: float) -> Tensor:
        """Dense near the sensor and sparse far away, as a sweep is."""
        distance = reach * torch.rand(count, 1) ** 2
        angle = 6.2832 * torch.rand(count, 1)
        plane = torch.cat((distance * angle.cos(), distance * angle.sin()), 1)
        return torch.cat((plane, torch.rand(count, 1) * 6 - 4, torch.rand(count, 2)), 1)

    full, small = (cloud(180_000, 75), 51.2), (cloud(20_000, 45), 40.0)
    for (points, reach), edges, max_points, max_voxels in (
        (full, [0.1, 0.1, 0.2], 10, 90_000),
        (full, [0.1, 0.1, 0.2], 10, 20_000),
        (full, [0.2, 0.2, 8.0], 20, 30_000),
        (small, [0.625, 0.625, 8.0], 12, 8_000),
        (full, [0.1, 0.1, 0.2], -1, -1),
    ):
        limit = 'dynamic' if max_points < 0 else f'at most {max_voxels:,} voxels'
        yield Case(
            *('voxelization', f'{len(points):,} points, {edges[0]} m, {limit}'),
            (points, edges, [-reach, -reach, -5.0, reach, reach, 3.0], max_points, max_voxels),
        )


def _scattering() -> Iterator[Case]:
    def in_pytorch(feats: Tensor, coors: Tensor, reduce_type: str) -> list[Tensor]:
        """Go the way that mmcv goes on GPUs."""
        coors = coors.masked_fill((coors < 0).any(1, keepdim=True), -1)
        cells, voxel = coors.unique(dim=0, return_inverse=True)
        index = voxel[:, None].expand_as(feats)
        reduce = 'amax' if reduce_type == 'max' else 'mean'
        values = feats.new_zeros(len(cells), feats.size(1))
        return [values.scatter_reduce(0, index, feats, reduce, include_self=False)[1:], cells[1:]]

    coors = torch.randint(-2, 256, (180_000, 3)).int()
    coors[:, 0] = 0
    for reduce_type in ('max', 'mean'):
        feats = torch.randn(180_000, 64, requires_grad=True)
        size = f'180,000 points, 64 channels, {reduce_type}'
        yield Case('dynamic_scatter', size, (feats, coors, reduce_type), in_pytorch, 'PyTorch')


def _attention() -> Iterator[Case]:
    from mmcv.ops import multi_scale_deform_attn as module

    def in_pytorch(value: Tensor, shapes: Tensor, _: Tensor, *rest: Any) -> Tensor:
        return module.multi_scale_deformable_attn_pytorch(value, shapes, *rest[:2])

    for name, batch, queries, heads, channels, levels in (
        ('quickstart, spatial', 6, 600, 4, 16, [(28, 50), (14, 25), (7, 13)]),
        ('quickstart, temporal', 1, 2304, 4, 16, [(48, 48)]),
        ('teacher, encoder', 1, 16_384, 8, 32, [(128, 128)]),
        ('teacher, decoder', 1, 900, 8, 32, [(128, 128)]),
    ):
        shapes = torch.tensor(levels)
        starts = torch.cat((shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]))
        value = torch.randn(batch, int(shapes.prod(1).sum()), heads, channels)
        # Away from the centers of cells, where the slope depends on the last bit.
        sides = shapes.flip(1)[:, None]
        cells = (torch.rand(batch, queries, heads, len(levels), 4, 2) * (sides + 2)).floor()
        locations = (cells + 0.9 * (torch.rand(cells.shape) - 0.5)) / sides
        inputs = [value, shapes, starts, locations, torch.rand(locations.shape[:-1]), 64]
        for index in (0, 3, 4):
            inputs[index].requires_grad_()
        yield Case(
            *('MultiScaleDeformableAttnFunction', name, inputs, in_pytorch, "mmcv's PyTorch code"),
            module.MultiScaleDeformableAttnFunction.apply,
        )


def _convolution() -> Iterator[Case]:
    for channels, height, width in ((64, 50, 80), (256, 29, 50)):
        image, bias = torch.randn(1, channels, height, width), torch.randn(channels)
        weight = torch.randn(channels, channels, 3, 3) / 50
        offset, mask = torch.randn(1, 18, height, width), torch.rand(1, 9, height, width)
        for tensor in (image, weight, bias, offset, mask):
            tensor.requires_grad_()
        size, axes = f'{channels} channels, {height} x {width}', (1, 1, 1, 1, 1)
        inputs = (image, offset, mask, weight, bias, *axes)
        yield Case('modulated_deform_conv2d', size, inputs)
        yield Case('deform_conv2d', size, (image, offset, weight, *axes, False, 1))


def _focal_loss() -> Iterator[Case]:
    def sigmoid(logits: Tensor, target: Tensor, gamma: float, alpha: float, *_: Any) -> Tensor:
        positive = functional.one_hot(target, logits.size(1) + 1)[:, :-1].to(logits.dtype)
        entropy = functional.binary_cross_entropy_with_logits(logits, positive, reduction='none')
        wrong = torch.where(positive > 0, -logits, logits).sigmoid()
        losses = (alpha * positive + (1 - alpha) * (1 - positive)) * wrong**gamma * entropy
        return losses.sum() / len(losses)

    def softmax(logits: Tensor, target: Tensor, gamma: float, alpha: float, *_: Any) -> Tensor:
        hit = logits.softmax(1).gather(1, target[:, None])[:, 0]
        return (-alpha * (1 - hit) ** gamma * hit.log()).mean()

    for name, formula in (('sigmoid', sigmoid), ('softmax', softmax)):
        logits = torch.randn(100_000, 10, requires_grad=True)
        inputs = (logits, torch.randint(0, 10, (100_000,)), 2.0, 0.25, None, 'mean')
        yield Case(f'{name}_focal_loss', '100,000 x 10', inputs, formula, 'PyTorch')


def _boxes() -> Iterator[Case]:
    """Compare what has no compiled operator for CPUs with one that has and tells the same."""
    from mmcv import ops
    from mmcv.ops import iou3d, points_in_boxes

    def overlaps(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
        shares = ops.box_iou_rotated(boxes_a[:, _FROM_ABOVE], boxes_b[:, _FROM_ABOVE], mode='iof')
        return shares * (boxes_a[:, 3:4] * boxes_a[:, 4:5])

    def rotated(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
        return ops.nms_rotated(boxes[:, _FROM_ABOVE], scores, threshold)[1]

    def upright(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
        half = boxes[:, 3:5] / 2
        corners = torch.cat((boxes[:, :2] - half, boxes[:, :2] + half), 1)
        return ops.nms(corners, scores, threshold)[1]

    # mmcv's own functions for these two ask for a GPU first.
    def in_all(points: Tensor, boxes: Tensor) -> Tensor:
        result = torch.zeros(1, points.size(1), boxes.size(1), dtype=torch.int32)
        points_in_boxes.ext_module.points_in_boxes_all_forward(boxes, points, result)
        return result

    def in_part(points: Tensor, boxes: Tensor) -> Tensor:
        result = torch.full((1, points.size(1)), -1, dtype=torch.int32)
        points_in_boxes.ext_module.points_in_boxes_part_forward(boxes, points, result)
        return result

    def first_box(points: Tensor, boxes: Tensor) -> Tensor:
        inside = ops.points_in_boxes_cpu(points, boxes)
        return torch.where(inside.any(2), inside.argmax(2), -1).int()

    boxes = torch.rand(1000, 7) * torch.tensor([100, 100, 2, 5, 3, 2, 6.3])
    rectangles, scores, some = boxes[:, _FROM_ABOVE].contiguous(), torch.rand(1000), boxes[:300]
    corners = torch.rand(1000, 2) * 200
    corners = torch.cat((corners, corners + torch.rand(1000, 2) * 30), 1)
    inputs = (torch.rand(1, 180_000, 3) * torch.tensor([100, 100, 4.0]), boxes[None, :50])
    yield Case('box_iou_rotated', '300 x 300', (rectangles[:300], rectangles[:300]))
    yield Case(
        *('boxes_overlap_bev', '300 x 300', (some, some), overlaps, 'compiled box_iou_rotated'),
        iou3d.boxes_overlap_bev,
    )
    count = '1,000 boxes'
    yield Case('nms', count, (corners, scores, 0.5))
    yield Case('nms_rotated', count, (rectangles, scores, 0.2))
    yield Case('nms3d', count, (boxes, scores, 0.2), rotated, 'compiled nms_rotated')
    yield Case('nms3d_normal', count, (boxes, scores, 0.2), upright, 'compiled nms')
    size, name = '180,000 points, 50 boxes', 'compiled points_in_boxes_cpu'
    yield Case('points_in_boxes_cpu', size, inputs)
    yield Case('points_in_boxes_all', size, inputs, ops.points_in_boxes_cpu, name, in_all)
    yield Case('points_in_boxes_part', size, inputs, first_box, name, in_part)
