"""Time every backend of deformable attention side by side, at sizes that the detectors use.

The body of tools/benchmark_deformable_attention.py:

    python tools/benchmark_deformable_attention.py --device cuda
    python tools/benchmark_deformable_attention.py --size 6x3600x8x8x32:116x200,58x100,29x50,15x25

Errors are the largest difference to mmcv's PyTorch code, relative to its largest number. The
gradient of the locations jumps where a sample crosses the center of a cell, so that of samples
there differs between any two float32 implementations.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from functools import partial
from typing import Callable, NamedTuple, Sequence

import torch
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.benchmark import timer  # reads the clock when the device is done

from ..errors import CibaError, exit_with_message
from .deformable_attention import attend_by, available_backends

_HEADINGS = ('forward', '', '+ backward', '', 'kept', 'error', 'of gradients')


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
    Size('full size, BEV features', 2, 128 * 128, 8, 4, 32, ((128, 128),)),
    # The fullest camera of a nuScenes vehicle sees about 3,900 of 128 x 128 BEV cells.
    Size('full size, images', 6, 3900, 8, 8, 32, ((116, 200), (58, 100), (29, 50), (15, 25))),
    Size('full size, decoder', 1, 900, 8, 4, 32, ((128, 128),)),
)


def measure(size: Size, device: torch.device, repeats: int) -> list[list[str]]:
    """Time every implementation at one size, in turns, as others may use the machine.

    Args:
        size: What to compute.
        device: Where.
        repeats: The median of so many calls counts.

    Returns:
        One row of the table for each; ratios and errors are to the first.
    """
    compared = list_contenders(device)
    tensors = _make_inputs(size, device)
    inputs = [_as_read(contender, tensors) for contender in compared]
    calls = [partial(_run, *pair, size) for pair in zip(compared, inputs)]
    forward = _median_seconds([partial(call, False) for call in calls], repeats)
    both = _median_seconds([partial(call, True) for call in calls], repeats)
    rows = []
    exact: list[Tensor] = []
    for index, contender in enumerate(compared):
        results = calls[index](True)
        exact = exact or results
        errors = [
            ((result.float() - other).abs().max() / other.abs().max()).item()
            for result, other in zip(results, exact)
        ]
        rows.append(
            [
                '' if index else size.name,
                contender.name,
                f'{forward[index] * 1e3:,.2f} ms',
                f'{forward[0] / forward[index]:.2f} x',
                f'{both[index] * 1e3:,.2f} ms',
                f'{both[0] / both[index]:.2f} x',
                f'{_kept_bytes(contender, inputs[index], size) / 2**20:,.0f} MiB',
                f'{errors[0]:.0e}' if index else '',
                f'{max(errors[1:]):.0e}' if index else '',
            ]
        )
    return rows


def list_contenders(device: torch.device) -> list[Contender]:
    """List mmcv's PyTorch code, then every backend that runs here, the one in use last."""

    def attend_by_mmcv(value: Tensor, shapes: Sequence[object], *rest: Tensor) -> Tensor:
        output: Tensor = multi_scale_deformable_attn_pytorch(
            value, torch.tensor(shapes, device=device), *rest
        )
        return output

    found = [Contender("mmcv's PyTorch code", attend_by_mmcv)]
    for backend in reversed(available_backends(device)):
        found.append(Contender(backend, partial(attend_by, backend)))
        if backend == 'triton' and 'triton' in available_backends(device, torch.bfloat16):
            attend = partial(attend_by, backend)
            found.append(Contender('triton, bfloat16', attend, torch.bfloat16))
    return found


def _make_inputs(size: Size, device: torch.device) -> list[Tensor]:
    """Make value, sampling locations and weights; queries look near their own position."""
    generator = torch.Generator().manual_seed(0)
    cells = sum(height * width for height, width in size.shapes)
    samples = (size.batch, size.queries, size.heads, len(size.shapes), size.points)
    value = torch.randn(size.batch, cells, size.heads, size.channels, generator=generator)
    side = int(size.queries**0.5) + 1
    query = torch.arange(size.queries)
    position = torch.stack((query % side, query // side), dim=-1) / side
    offsets = 0.05 * torch.randn(*samples, 2, generator=generator)
    weights = torch.rand(samples, generator=generator)
    weights = weights / weights.sum((-2, -1), keepdim=True)
    tensors = (value, position[:, None, None, None] + offsets, weights)
    return [tensor.to(device).requires_grad_() for tensor in tensors]


def _as_read(contender: Contender, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the same inputs with the value in the dtype that a contender reads."""
    return [inputs[0].detach().to(contender.dtype).requires_grad_(), *inputs[1:]]


def _run(
    contender: Contender, inputs: Sequence[Tensor], size: Size, backward: bool
) -> list[Tensor]:
    """Return the output of one call, with its gradients if they are asked for."""
    with torch.set_grad_enabled(backward):
        output = contender.attend(inputs[0], size.shapes, *inputs[1:])
    gradients = torch.autograd.grad(output.sum(), inputs) if backward else ()
    return [output.detach(), *gradients]


def _median_seconds(calls: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    seconds: list[list[float]] = [[] for _ in calls]
    # The first turn warms up.
    for _ in range(repeats + 1):
        for call, durations in zip(calls, seconds):
            start = timer()
            call()
            durations.append(timer() - start)
    return [statistics.median(durations[1:]) for durations in seconds]


def _kept_bytes(contender: Contender, inputs: Sequence[Tensor], size: Size) -> int:
    """Return the memory that a call keeps for its backward pass, each storage counted once."""
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


def _parse_size(text: str) -> Size:
    try:
        numbers, levels = text.split(':')
        batch, queries, heads, points, channels = map(int, numbers.split('x'))
        sides = [level.split('x') for level in levels.split(',')]
        shapes = tuple((int(height), int(width)) for height, width in sides)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form BxQxHxPxC:hxw,hxw') from None
    return Size(text, batch, queries, heads, points, channels, shapes)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line of tools/benchmark_deformable_attention.py.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--device', default='cpu', help='cpu (default) or cuda')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads(), help='on a CPU')
    parser.add_argument(
        '--repeats', type=int, default=5, help='number of runs; the median is reported (default: 5)'
    )
    parser.add_argument(
        '--size',
        type=_parse_size,
        action='append',
        metavar='BxQxHxPxC:hxw,hxw',
        help='batch, queries, heads, points and channels of a head, then height and width of each '
        'level, instead of the sizes of the detectors; may be repeated',
    )
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run tools/benchmark_deformable_attention.py.

    Args:
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_args(arguments)

    def run() -> None:
        for name in ('threads', 'repeats'):
            if getattr(args, name) < 1:
                raise CibaError(f'{name} is {getattr(args, name)}; give 1 or more.')
        if args.device.startswith('cuda') and not torch.cuda.is_available():
            raise CibaError('--device cuda needs a GPU and torch sees none. Leave it out.')
        torch.set_num_threads(args.threads)
        device = torch.device(args.device)
        hardware = f'CPU, threads: {args.threads}'
        if device.type == 'cuda':
            device = torch.device('cuda', torch.cuda.current_device())
            hardware = torch.cuda.get_device_name(device)
        title = f'Deformable attention, {hardware}, median of {args.repeats}'
        table = Table('size', 'by', title=title, box=SIMPLE_HEAD)
        for heading in _HEADINGS:
            table.add_column(heading, justify='right')
        for size in args.size or SIZES:
            for row in measure(size, device, args.repeats):
                table.add_row(*row)
            table.add_section()
        # A pipe has no width of its own.
        Console(width=None if sys.stdout.isatty() else 120).print(table)

    exit_with_message(run, args.traceback)
