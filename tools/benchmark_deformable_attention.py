"""Time every backend of deformable attention side by side, at sizes that the detectors use.

    python tools/benchmark_deformable_attention.py --device cuda
    python tools/benchmark_deformable_attention.py --size 6x3600x8x8x32:116x200,58x100,29x50,15x25

Errors are the largest difference to mmcv's PyTorch code, relative to its largest number. The
gradient of the locations jumps where a sample crosses the centre of a cell, so that of samples
there differs between any two float32 implementations.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from typing import Callable, NamedTuple

import torch
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ciba_bev.ops.deformable_attention import attend_by, available_backends


class Size(NamedTuple):
    """One call of the operator."""

    name: str
    batch: int
    queries: int
    heads: int
    points: int
    channels: int  # of one head
    shapes: tuple[tuple[int, int], ...]


class Contender(NamedTuple):
    """One implementation, called as ``attend(value, shapes, locations, weights)``."""

    name: str
    attend: Callable[..., Tensor]
    dtype: torch.dtype = torch.float32  # of the value


SIZES = (
    Size('quickstart, images', 6, 1500, 4, 4, 16, ((18, 32), (9, 16), (5, 8))),
    Size('full size, BEV maps', 2, 128 * 128, 8, 4, 32, ((128, 128),)),
    # The fullest camera of a nuScenes vehicle sees about 3,900 of 128 x 128 BEV cells.
    Size('full size, images', 6, 3900, 8, 8, 32, ((116, 200), (58, 100), (29, 50), (15, 25))),
    Size('full size, decoder', 1, 900, 8, 4, 32, ((128, 128),)),
)


def main() -> None:
    """Print one table: milliseconds, speed-ups, errors, and what is kept for the backward pass."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--device', default='cpu', help='cpu (default) or cuda')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads(), help='on a CPU')
    parser.add_argument('--repeats', type=int, default=5, help='the median of so many runs counts')
    parser.add_argument(
        '--size',
        type=parse_size,
        action='append',
        metavar='BxQxHxPxC:hxw,hxw',
        help='batch, queries, heads, points and channels of a head, then height and width of each '
        'level, instead of the sizes of the detectors; may be repeated',
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    if device.type == 'cuda':
        device = torch.device('cuda', torch.cuda.current_device())
        hardware = torch.cuda.get_device_name(device)
    else:
        hardware = f'CPU, threads: {arguments.threads}'

    title = f'Deformable attention, {hardware}, median of {arguments.repeats}'
    table = Table(title=title, box=SIMPLE_HEAD)
    table.add_column('size')
    table.add_column('by')
    for heading in ('forward', '', '+ backward', '', 'kept', 'error', 'of gradients'):
        table.add_column(heading, justify='right')
    for size in arguments.size or SIZES:
        add_rows(table, size, device, arguments.repeats)
    Console().print(table)


def parse_size(text: str) -> Size:
    """Read a size such as ``6x3600x8x8x32:116x200,58x100``."""
    try:
        numbers, levels = text.split(':')
        batch, queries, heads, points, channels = map(int, numbers.split('x'))
        sides = [level.split('x') for level in levels.split(',')]
        shapes = tuple((int(height), int(width)) for height, width in sides)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form BxQxHxPxC:hxw,hxw') from None
    return Size(text, batch, queries, heads, points, channels, shapes)


def add_rows(table: Table, size: Size, device: torch.device, repeats: int) -> None:
    """Time every implementation at one size, in turns; ratios and errors are to the first."""
    inputs = make_inputs(size, device)
    compared = contenders(device)
    calls = [partial(run, contender, size, read_as(contender, inputs)) for contender in compared]
    forward = median_seconds([partial(call, False) for call in calls], device, repeats)
    both = median_seconds([partial(call, True) for call in calls], device, repeats)
    results = [call(True) for call in calls]
    for index, contender in enumerate(compared):
        errors = [
            relative_error(result, exact) for result, exact in zip(results[index], results[0])
        ]
        table.add_row(
            '' if index else size.name,
            contender.name,
            f'{forward[index] * 1e3:,.2f} ms',
            f'{forward[0] / forward[index]:.2f} x',
            f'{both[index] * 1e3:,.2f} ms',
            f'{both[0] / both[index]:.2f} x',
            f'{kept_bytes(contender, size, read_as(contender, inputs)) / 2**20:,.0f} MiB',
            f'{errors[0]:.0e}' if index else '',
            f'{max(errors[1:]):.0e}' if index else '',
        )
    table.add_section()


def contenders(device: torch.device) -> list[Contender]:
    """mmcv's PyTorch code first, then every backend that runs here, the one in use last."""

    def by_mmcv(value: Tensor, shapes: tuple, locations: Tensor, weights: Tensor) -> Tensor:
        return multi_scale_deformable_attn_pytorch(
            value, torch.tensor(shapes, device=device), locations, weights
        )

    def by(backend: str) -> Callable[..., Tensor]:
        return lambda *arguments: attend_by(backend, *arguments)

    found = [Contender("mmcv's PyTorch code", by_mmcv)]
    for backend in reversed(available_backends(device)):
        found.append(Contender(backend, by(backend)))
        if backend == 'triton' and 'triton' in available_backends(device, torch.bfloat16):
            found.append(Contender('triton, bfloat16', by(backend), torch.bfloat16))
    return found


def make_inputs(size: Size, device: torch.device) -> list[Tensor]:
    """Value, sampling locations and weights; queries look at neighbouring places, as they do."""
    generator = torch.Generator().manual_seed(0)
    cells = sum(height * width for height, width in size.shapes)
    samples = (size.batch, size.queries, size.heads, len(size.shapes), size.points)
    value = torch.randn(size.batch, cells, size.heads, size.channels, generator=generator)
    side = int(size.queries**0.5) + 1
    query = torch.arange(size.queries)
    place = torch.stack((query % side, query // side), dim=-1) / side
    offsets = 0.05 * torch.randn(*samples, 2, generator=generator)
    locations = place[:, None, None, None] + offsets
    weights = torch.rand(samples, generator=generator)
    weights = weights / weights.sum((-2, -1), keepdim=True)
    return [tensor.to(device).requires_grad_() for tensor in (value, locations, weights)]


def read_as(contender: Contender, inputs: list[Tensor]) -> list[Tensor]:
    """The same inputs with the value in the dtype that a contender reads."""
    return [inputs[0].detach().to(contender.dtype).requires_grad_(), *inputs[1:]]


def run(contender: Contender, size: Size, inputs: list[Tensor], backward: bool) -> list[Tensor]:
    """Output of one call, with its gradients if they are asked for."""
    with torch.set_grad_enabled(backward):
        output = contender.attend(inputs[0], size.shapes, *inputs[1:])
    gradients = torch.autograd.grad(output.sum(), inputs) if backward else ()
    return [output.detach(), *gradients]


def relative_error(result: Tensor, exact: Tensor) -> float:
    """Largest difference as a part of the largest number."""
    return ((result.float() - exact).abs().max() / exact.abs().max()).item()


def median_seconds(
    calls: list[Callable[[], object]], device: torch.device, repeats: int
) -> list[float]:
    """Median duration of each, after one call to warm up, in turns: others may use the machine."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats + 1):
        for call, durations in zip(calls, seconds):
            start = time.perf_counter()
            call()
            if device.type == 'cuda':
                torch.cuda.synchronize()
            durations.append(time.perf_counter() - start)
    return [statistics.median(durations[1:]) for durations in seconds]


def kept_bytes(contender: Contender, size: Size, inputs: list[Tensor]) -> int:
    """Memory that a forward call keeps for its backward one, each storage counted once."""
    storages = {}

    def note(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        # The output keeps the graph, and so every noted storage, alive while they are counted.
        output = contender.attend(inputs[0], size.shapes, *inputs[1:])
        total = sum(storages.values())
    del output
    return total


if __name__ == '__main__':
    main()
