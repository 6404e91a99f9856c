"""Time deformable attention against mmcv's, side by side, at sizes that the detectors use."""

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

from ciba_bev.ops import deformable_attention


class Size(NamedTuple):
    """One call of the operator."""

    name: str
    batch: int
    queries: int
    shapes: tuple[tuple[int, int], ...]
    heads: int
    points: int
    channels: int  # of one head


class Contender(NamedTuple):
    """One implementation, called as ``attend(value, shapes, locations, weights)``."""

    name: str
    attend: Callable[..., Tensor]


SIZES = (
    Size('quickstart, images', 6, 1500, ((18, 32), (9, 16), (5, 8)), 4, 4, 16),
    Size('full size, BEV maps', 2, 128 * 128, ((128, 128),), 8, 4, 32),
    # The fullest camera of a nuScenes vehicle sees about 3,900 of 128 x 128 BEV cells.
    Size(
        'full size, images',
        6,
        3900,
        ((116, 200), (58, 100), (29, 50), (15, 25)),
        8,
        8,
        32,
    ),
)


def main() -> None:
    """Print one table: milliseconds, speed-ups, and what is kept for the backward pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--device', default='cpu', help='cpu (default) or cuda')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads(), help='on a CPU')
    parser.add_argument('--repeats', type=int, default=3, help='the median of so many runs counts')
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)

    hardware = 'GPU' if device.type == 'cuda' else f'CPU, threads: {arguments.threads}'
    title = f'Deformable attention, {hardware}, median of {arguments.repeats}'
    table = Table(title=title, box=SIMPLE_HEAD)
    table.add_column('size')
    table.add_column('by')
    for heading in ('forward', '', '+ backward', '', 'kept'):
        table.add_column(heading, justify='right')
    for size in SIZES:
        add_rows(table, size, device, arguments.repeats)
    Console().print(table)


def add_rows(table: Table, size: Size, device: torch.device, repeats: int) -> None:
    """Time every implementation at one size; ratios are to the first."""
    inputs = make_inputs(size, device)
    name = size.name
    baseline: tuple[float, float] | None = None
    for contender in contenders(device):
        forward = median_seconds(partial(run, contender, size, inputs, False), device, repeats)
        both = median_seconds(partial(run, contender, size, inputs, True), device, repeats)
        baseline = baseline or (forward, both)
        table.add_row(
            name,
            contender.name,
            f'{forward * 1e3:,.1f} ms',
            f'{baseline[0] / forward:.2f} x',
            f'{both * 1e3:,.1f} ms',
            f'{baseline[1] / both:.2f} x',
            f'{kept_bytes(contender, size, inputs) / 2**20:,.0f} MiB',
        )
        name = ''
    table.add_section()


def contenders(device: torch.device) -> list[Contender]:
    """mmcv's PyTorch fallback, then ours, which on a GPU is mmcv's kernel where mmcv has it."""

    def by_mmcv(value: Tensor, shapes: tuple, locations: Tensor, weights: Tensor) -> Tensor:
        return multi_scale_deformable_attn_pytorch(
            value, torch.tensor(shapes, device=device), locations, weights
        )

    return [Contender('mmcv', by_mmcv), Contender('ciba_bev', deformable_attention)]


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


def run(contender: Contender, size: Size, inputs: list[Tensor], backward: bool) -> None:
    """One call, with or without its gradients."""
    with torch.set_grad_enabled(backward):
        output = contender.attend(inputs[0], size.shapes, *inputs[1:])
    if backward:
        torch.autograd.grad(output.sum(), inputs)


def median_seconds(call: Callable[[], None], device: torch.device, repeats: int) -> float:
    """Median duration, after one call to warm up."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        if device.type == 'cuda':
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


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
