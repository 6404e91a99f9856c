"""The body of tools/benchmark.py: what a distillation step costs.

It is measured beside its parts, the plain student's training step and the teacher's feature. All
take turns, step by step, on the same batches, so that whatever else the machine does is shared.
Peak memory is measured apart, each case in a process of its own.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import platform
import resource
import sys
import tempfile
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Callable, Mapping, Sequence

import pandas as pd
import psutil
import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch.utils.benchmark import timer  # reads the clock when the device is done
from torch.utils.data._utils.pin_memory import pin_memory

from ..errors import CibaError, exit_with_message
from .benchmark_cases import STUDENT, TEACHER, BenchmarkCase, build_step, list_cases
from .benchmark_loader import build_loader, measure_loader
from .command_lines import read_config
from .gpu_activity import busy_seconds, record_trace
from .measured_process import call_in_process
from .training import use_mixed_precision

LIMIT = 1.15
"""A distillation step may cost so many times its parts, in time and in memory."""

SUM = 'sum of both'
# Columns of the table and how their numbers are printed.
_FORMATS = {
    'median, ms': '{:,.1f}',
    'quartiles': '{0[0]:,.0f}-{0[1]:,.0f}',
    'of sum': '{:.3f}',
    'GPU busy': '{:.0%}',
    'peak, MiB': '{:,.0f}',
    'peak of sum': '{:.3f}',
}
# The second one meets an optimizer that has its state, and so the peak of all later ones.
_BATCHES = 2

Batch = dict
Step = Callable[[Batch], object]


def compare(
    cfg: Config,
    sizes: Sequence[int] | None = None,
    steps: int = 20,
    warmup: int = 3,
    batch_size: int | None = None,
    image_size: tuple[int, int] = (1600, 900),
) -> tuple[pd.DataFrame, list[str]]:
    """Measure what the distillation of a config costs.

    Teacher, student and bottlenecks have random weights: no checkpoint is needed. Without the
    config's data set, a few frames are simulated in the nuScenes format.

    Args:
        cfg: A config whose model is a ``ciba_bev.Distiller``.
        sizes: Code sizes H to measure; None for the config's own.
        steps: Steps of each case that count, at least 2.
        warmup: Steps of each before these.
        batch_size: Samples in a batch; None for the config's.
        image_size: Width and height of simulated images, pixels.

    Returns:
        The table of :func:`summarize`, and what else there is to say: device and settings, where
        the batches came from, the loader's speed.

    Raises:
        CibaError: The config distils nothing, or a value is not one of those above.
    """
    if steps < 2 or warmup < 0:
        raise CibaError(f'steps is {steps} and warmup {warmup}; give at least 2 and 0.')
    if batch_size is not None and batch_size < 1:
        raise CibaError(f'batch_size is {batch_size}; give 1 or more.')
    device = _start(cfg)
    cases = list_cases(cfg, sizes)
    batch_size = batch_size or cfg.train_dataloader.batch_size
    with tempfile.TemporaryDirectory(prefix='ciba_benchmark_') as folder:
        loader, source = build_loader(cfg, batch_size, image_size, Path(folder), _BATCHES)
        batches = list(itertools.islice(loader, _BATCHES))
        loading = measure_loader(loader)
        built = {case.name: build_step(cfg, case, device) for case in cases}
        seconds = measure_seconds(built, batches, steps, warmup, device)
        busy = {name: measure_busy(step, batches, device) for name, step in built.items()}
        # The models must not take the memory that is measured next.
        built.clear()
        peaks = {case.name: measure_peak(cfg, case, batches, Path(folder)) for case in cases}
    gpu = torch.cuda.get_device_name() if device.type == 'cuda' else None
    notes = [
        f'{gpu or "CPU " + platform.machine()}, torch {torch.__version__}, threads: '
        f'{torch.get_num_threads()}, batch size: {batch_size}',
        f'Batches: {source}.',
        loading.describe(),
    ]
    return summarize(seconds, peaks, busy), notes


def measure_seconds(
    steps_of: Mapping[str, Step],
    batches: Sequence[Batch],
    steps: int,
    warmup: int,
    device: torch.device,
) -> dict[str, list[float]]:
    """Time steps in turns: every case on one batch, then all on the next.

    Args:
        steps_of: Name of a case to its step.
        batches: Taken one after the other, again and again. They are not changed.
        steps: Rounds that count.
        warmup: Rounds before these.
        device: Where the steps run.

    Returns:
        Name to the duration of each of its steps that count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps_of}
    rounds = itertools.islice(itertools.cycle(batches), warmup + steps)
    for number, batch in enumerate(rounds):
        for name, step in steps_of.items():
            fresh = _copy_batch(batch, device)
            began = timer()
            step(fresh)
            duration = timer() - began
            if number >= warmup:
                seconds[name].append(duration)
    return seconds


def measure_busy(step: Step, batches: Sequence[Batch], device: torch.device) -> float | None:
    """Return how many seconds a step keeps the GPU busy.

    None on a CPU, or if the profiler records nothing. The profiler slows down Python, but not what
    the GPU does, so this is compared with steps that were timed without it.
    """
    if device.type != 'cuda':
        return None
    copies = [_copy_batch(batch, device) for batch in batches]
    events = record_trace(lambda: [step(batch) for batch in copies])
    return busy_seconds(events) / len(batches) or None


def measure_peak(cfg: Config, case: BenchmarkCase, batches: Sequence[Batch], folder: Path) -> int:
    """Run one step on each batch in a fresh process and return the most bytes it held.

    On a GPU these are what torch allocated there; on a CPU what the process held beyond interpreter
    and data.

    Raises:
        CibaError: The process died.
    """
    config_file, batch_file = folder / 'config.py', folder / 'batches.pth'
    if not config_file.is_file():
        cfg.dump(config_file)
        torch.save(batches, batch_file)
    threads = torch.get_num_threads()
    try:
        return call_in_process(_peak_of_this_process, config_file, case, batch_file, threads)
    except BrokenProcessPool as error:
        raise CibaError(
            f'the process that measured the memory of "{case.name}" died, most likely because '
            'memory ran out. Give a smaller --batch-size or --image-size.'
        ) from error


def _peak_of_this_process(
    config_file: Path, case: BenchmarkCase, batch_file: Path, threads: int
) -> int:
    torch.set_num_threads(threads)
    cfg = Config.fromfile(config_file)
    device = _start(cfg)
    # Written by the process that started this one.
    batches = torch.load(batch_file, weights_only=False)
    before = psutil.Process().memory_info().rss
    step = build_step(cfg, case, device)
    for batch in batches:
        step(batch)
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before


def _start(cfg: Config) -> torch.device:
    """Do in this process what a training would do first, and return the device to run on."""
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    # Building optimizers is announced parameter by parameter.
    MMLogger.get_instance('ciba_benchmark', log_level='WARNING')
    if not torch.cuda.is_available():
        return torch.device('cpu')
    # As tools/train.py and the config have it.
    torch.set_float32_matmul_precision('high')
    torch.backends.cudnn.benchmark = bool((cfg.get('env_cfg') or {}).get('cudnn_benchmark'))
    return torch.device('cuda')


def _copy_batch(batch: Batch, device: torch.device) -> Batch:
    """Copy a batch, as preprocessing may write on it; into pinned memory for a GPU."""
    fresh = copy.deepcopy(batch)
    return pin_memory(fresh) if device.type == 'cuda' else fresh


def summarize(
    seconds: Mapping[str, Sequence[float]],
    peaks: Mapping[str, float],
    busy: Mapping[str, float | None],
) -> pd.DataFrame:
    """Compare the costs of distillation with those of its parts together.

    Args:
        seconds: Name of a case to the durations of its steps, of the same turns for all.
        peaks: Name to the most memory it held, in bytes.
        busy: Name to the seconds for which a step keeps the GPU busy, or None.

    Returns:
        One row for each case and for the sum of student and teacher.
    """
    times = pd.DataFrame(seconds)
    costs = pd.DataFrame({'peak': peaks, 'busy': busy}, dtype=float)
    parts = [STUDENT.name, TEACHER.name]
    times[SUM] = times[parts].sum(axis='columns')
    costs.loc[SUM] = costs.loc[parts].sum(skipna=False)
    low, median, high = (1e3 * times.quantile(q) for q in (0.25, 0.5, 0.75))
    table = pd.DataFrame(
        {
            'median, ms': median,
            'quartiles': pd.Series(dict(zip(times, zip(low, high)))),
            # Turns differ in their batch and in what else the machine does.
            'of sum': times.div(times[SUM], axis='index').median(),
            'GPU busy': 1e3 * costs['busy'] / median,
            'peak, MiB': costs['peak'] / 2**20,
            'peak of sum': costs['peak'] / costs['peak'][SUM],
        }
    )
    others = [name for name in seconds if name not in parts]
    return table.loc[[*parts, SUM, *others]].dropna(axis='columns', how='all')


def verdict(table: pd.DataFrame) -> str:
    """Return whether every distillation step keeps to the limit, naming the most expensive."""
    distillers = table.drop([STUDENT.name, TEACHER.name, SUM])
    findings = []
    for what, column in (('time', 'of sum'), ('memory', 'peak of sum')):
        worst, ratio = distillers[column].idxmax(), distillers[column].max()
        kept = 'within' if ratio <= LIMIT else 'BEYOND'
        findings.append(f'{what} at most {ratio:.3f} ({worst}), {kept} the limit of {LIMIT}')
    return '; '.join(findings) + '.'


def show(table: pd.DataFrame, title: str, notes: Sequence[str], markdown: bool) -> None:
    """Print a table of :func:`summarize`, for the terminal or in Markdown, with its verdict."""
    columns = {name: table[name].map(_FORMATS[name].format, na_action='ignore') for name in table}
    rows = list(pd.DataFrame(columns).fillna('').itertuples(name=None))
    header, body = ['', *table], Table(box=SIMPLE_HEAD)
    for number, name in enumerate(header):
        body.add_column(name, justify='right' if number else 'left', no_wrap=True)
    for row in rows:
        body.add_row(*row)
    lines = [header, ['---', *['---:'] * len(columns)], *rows]
    text = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
    # A pipe has no width of its own.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    for part in (title, *notes, '', text if markdown else body, '', verdict(table)):
        console.print(part, soft_wrap=True, markup=False)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line of tools/benchmark.py.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    parser = argparse.ArgumentParser(
        description="Measure a distillation step beside the plain student's training step and the "
        "teacher's feature alone, and the data loader. Needs neither checkpoints nor a data set."
    )
    add = parser.add_argument
    add('config', help='config of a distillation')
    add('--steps', type=int, default=20, help='timed steps per case (default: 20)')
    add('--warmup', type=int, default=3, help='untimed warm-up steps per case (default: 3)')
    add('--batch-size', type=int, help="samples in a batch (default: the config's)")
    add('--sizes', type=_numbers(','), metavar='H,...', help="code sizes (default: the config's)")
    add(
        '--image-size',
        type=_numbers('x', 2),
        default=(1600, 900),
        metavar='WIDTHxHEIGHT',
        help='of the images simulated where there is no data set (default: 1600x900)',
    )
    add('--threads', type=int, help="of torch on the CPU (default: torch's choice)")
    add('--amp', action='store_true', help='in mixed precision (needs a GPU)')
    add('--markdown', action='store_true', help='print a Markdown table')
    add(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='config fields to override, as for tools/train.py',
    )
    add('--traceback', action='store_true', help='show the full trace of an error')
    # What reading a config also asks for.
    parser.set_defaults(launcher='none', work_dir=None, local_rank=0)
    return parser.parse_args(arguments)


def _numbers(separator: str, count: int | None = None) -> Callable[[str], tuple[int, ...]]:
    """Return a parser of positive integers between separators."""

    def parse(text: str) -> tuple[int, ...]:
        words = text.split(separator)
        numbers = tuple(int(word) if word.isdigit() else 0 for word in words)
        if 0 in numbers or count not in (None, len(numbers)):
            raise argparse.ArgumentTypeError(f'{text!r} must be numbers with {separator!r} between')
        return numbers

    return parse


def main(arguments: list[str] | None = None) -> None:
    """Run tools/benchmark.py.

    Args:
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_args(arguments)

    def run() -> None:
        cfg = read_config(args)
        if args.amp:
            use_mixed_precision(cfg)
        if args.threads is not None:
            if args.threads < 1:
                raise CibaError(f'threads is {args.threads}; give 1 or more.')
            torch.set_num_threads(args.threads)
        table, notes = compare(
            cfg, args.sizes, args.steps, args.warmup, args.batch_size, args.image_size
        )
        title = f'{args.config}, medians of {args.steps} steps taken in turns'
        show(table, title, notes, args.markdown)

    exit_with_message(run, args.traceback)
