"""The body of tools/benchmark.py: what a distillation step costs.

It is measured against its parts, the plain student's training step and the teacher's feature. The
variants take turns, step by step, on the same batches, so that whatever else the machine does is
shared by all of them. Peak memory is measured apart, each variant in a process of its own.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple, Sequence

import psutil
import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ..checkpoints.files import read_checkpoints_safely
from ..distillation.frozen_model import FrozenModel, select_inputs
from ..distillation.hooks import CHECKPOINT_KEY
from ..errors import CibaError, exit_with_message
from ..registry import MODELS
from .command_lines import read_config
from .training import use_mixed_precision

LIMIT = 1.15
"""A distillation step may cost so many times its parts, in time and in memory."""

_MEBIBYTE = 2**20
# The second one meets an optimizer that has its state, and so the peak of all later ones.
_BATCHES = 2

Batch = dict
Step = Callable[[Batch], None]


class Variant(NamedTuple):
    """Something whose cost is measured.

    Attributes:
        name: What it is, for the table.
        part: ``'student'``, ``'teacher'``, or ``'distiller'`` for both together.
        size: Channels H of the code that a distiller distils; None for all of the teacher's.
    """

    name: str
    part: str
    size: int | None = None


STUDENT = Variant('student, training step', 'student')
TEACHER = Variant('teacher, feature', 'teacher')


@dataclass
class Cost:
    """What one variant takes.

    Attributes:
        variant: Which one.
        seconds: Duration of every step.
        peak_bytes: The most memory its steps held: on a GPU what torch allocated there; on a CPU
            what the process held beyond interpreter and data.
    """

    variant: Variant
    seconds: list[float]
    peak_bytes: int

    @property
    def median(self) -> float:
        """Median duration of a step, seconds."""
        return statistics.median(self.seconds)


@dataclass
class Comparison:
    """What distillation costs beside its parts.

    Attributes:
        student: The plain student's training step.
        teacher: The teacher's feature alone.
        distillers: The distillation steps.
        data: Where the batches came from.
        setting: Device, torch, threads and batch size.
    """

    student: Cost
    teacher: Cost
    distillers: list[Cost]
    data: str
    setting: str

    def time_ratio(self, cost: Cost) -> float:
        """Median of a variant's time over that of student and teacher in the same turn.

        Turns differ in their batch and in what else the machine does, so they are compared one by
        one.
        """
        together = self._seconds_together()
        return statistics.median(own / both for own, both in zip(cost.seconds, together))

    def memory_ratio(self, cost: Cost) -> float:
        """A variant's peak memory over the sum of student's and teacher's."""
        return cost.peak_bytes / self._peak_together()

    def rows(self) -> list[list[str]]:
        """The table as rows of text, the header first."""
        return [
            ['', 'median, ms', 'quartiles', 'of sum', 'peak, MiB', 'of sum'],
            self._row(self.student),
            self._row(self.teacher),
            [
                'sum of both',
                f'{statistics.median(self._seconds_together()) * 1e3:,.1f}',
                '',
                '1.000',
                f'{self._peak_together() / _MEBIBYTE:,.0f}',
                '1.000',
            ],
            *(self._row(cost) for cost in self.distillers),
        ]

    def _row(self, cost: Cost) -> list[str]:
        low, _, high = statistics.quantiles(cost.seconds, n=4, method='inclusive')
        return [
            cost.variant.name,
            f'{cost.median * 1e3:,.1f}',
            f'{low * 1e3:,.0f}-{high * 1e3:,.0f}',
            f'{self.time_ratio(cost):.3f}',
            f'{cost.peak_bytes / _MEBIBYTE:,.0f}',
            f'{self.memory_ratio(cost):.3f}',
        ]

    def _seconds_together(self) -> list[float]:
        return [sum(pair) for pair in zip(self.student.seconds, self.teacher.seconds)]

    def _peak_together(self) -> int:
        return self.student.peak_bytes + self.teacher.peak_bytes

    def verdict(self) -> str:
        """Whether every distillation step keeps to the limit, and the dearest of each kind."""
        findings = []
        for what, ratio in (('time', self.time_ratio), ('memory', self.memory_ratio)):
            dearest = max(self.distillers, key=ratio)
            kept = 'within' if ratio(dearest) <= LIMIT else 'BEYOND'
            findings.append(
                f'{what} at most {ratio(dearest):.3f} ({dearest.variant.name}), '
                f'{kept} the limit of {LIMIT}'
            )
        return '; '.join(findings) + '.'


def compare(
    cfg: Config,
    sizes: Sequence[int] | None = None,
    steps: int = 20,
    warmup: int = 3,
    batch_size: int | None = None,
    image_size: tuple[int, int] = (1600, 900),
) -> Comparison:
    """Measure what the distillation of a config costs.

    Teacher, student and bottlenecks have random weights: no checkpoint is needed. Without the
    config's data set, a few frames are simulated in the nuScenes format.

    Args:
        cfg: A config whose model is a ``ciba_bev.Distiller``.
        sizes: Code sizes H to measure; None for the config's own.
        steps: Steps of each variant that count, at least 2.
        warmup: Steps of each before these.
        batch_size: Samples in a batch; None for the config's.
        image_size: Width and height of simulated images, pixels.

    Returns:
        The costs.

    Raises:
        CibaError: The config distils nothing, or a value is not one of those above.
    """
    if steps < 2 or warmup < 0:
        raise CibaError(f'steps is {steps} and warmup {warmup}; give at least 2 and 0.')
    if batch_size is not None and batch_size < 1:
        raise CibaError(f'batch_size is {batch_size}; give 1 or more.')
    device = _start(cfg)
    with tempfile.TemporaryDirectory(prefix='ciba_benchmark_') as name:
        folder = Path(name)
        cfg, variants = prepare(cfg, sizes, folder)
        batch_size = batch_size or cfg.train_dataloader.batch_size
        batches, data = load_batches(cfg, batch_size, image_size, folder)
        built = {variant.name: build_step(cfg, variant, device) for variant in variants}
        seconds = measure_seconds(built, batches, steps, warmup, device)
        # The models must not take the memory that is measured next.
        built.clear()
        peaks = {variant: measure_peak(cfg, variant, batches, folder) for variant in variants}
    student, teacher, *distillers = (
        Cost(variant, seconds[variant.name], peaks[variant]) for variant in variants
    )
    setting = (
        f'{describe_device(device)}, torch {torch.__version__}, threads: '
        f'{torch.get_num_threads()}, batch size: {batch_size}'
    )
    return Comparison(student, teacher, distillers, data, setting)


def prepare(cfg: Config, sizes: Sequence[int] | None, folder: Path) -> tuple[Config, list[Variant]]:
    """Make the checkpoints that a distiller reads, and say what can be measured with them.

    Args:
        cfg: The distiller's config.
        sizes: Code sizes H; None for the config's own.
        folder: Where the checkpoints go.

    Returns:
        A copy of the config that reads them and fetches no pretrained weights, and the variants:
        student, teacher, then the distillers.

    Raises:
        CibaError: The config distils nothing, or has no bottleneck of these sizes.
    """
    model = cfg.get('model') or {}
    if 'teacher' not in model or 'student_tap' not in model:
        raise CibaError(
            f'{cfg.filename}: its model is {model.get("type")}, which distils nothing. Give the '
            'config of a ciba_bev.Distiller, as configs/ciba_bevformer_r50_h4.py.'
        )
    cfg = copy.deepcopy(cfg)
    model = cfg.model
    model.student = _without_pretrained(model.student)
    model.teacher.checkpoint = _write_random_weights('teacher', model.teacher, folder)
    everything = Variant('distiller, all channels', 'distiller')
    if not model.get('bottleneck'):
        if sizes:
            raise CibaError(
                f'{cfg.filename} distils all channels; only a config with a bottleneck has code '
                'sizes to measure. Leave --sizes out, or give such a config.'
            )
        return cfg, [STUDENT, TEACHER, everything]
    sizes = list(sizes or [model.bottleneck.size])
    model.bottleneck.checkpoint, widths = _write_random_bottlenecks(cfg, sizes, folder)
    variants = [Variant(f'distiller, H = {size}', 'distiller', size) for size in sizes]
    # Features of different widths can be compared by a code only.
    if widths[0] == widths[1]:
        variants.insert(0, everything)
    return cfg, [STUDENT, TEACHER, *variants]


def load_batches(
    cfg: Config, batch_size: int, image_size: tuple[int, int], folder: Path
) -> tuple[list[Batch], str]:
    """Load a few training batches.

    Args:
        cfg: The config; if its data set is not there, it is pointed at simulated data.
        batch_size: Samples in a batch.
        image_size: Width and height of simulated images, pixels.
        folder: Where simulated data go.

    Returns:
        Collated batches, as the data loader gives them, and where they came from.

    Raises:
        CibaError: The data cannot be loaded.
    """
    loader = dict(
        cfg.train_dataloader, batch_size=batch_size, num_workers=0, persistent_workers=False
    )
    loader.pop('prefetch_factor', None)
    dataset = loader['dataset']
    root = dataset.get('data_root')
    if root and not Path(root, dataset['ann_file']).is_file():
        simulated = folder / 'simulated'
        frames = _BATCHES * batch_size
        _run_apart(_simulate, 'simulated data', simulated, frames, image_size)
        dataset['data_root'] = f'{simulated}/'
        dataset['ann_file'] = 'nuscenes_infos_train.pkl'
        width, height = image_size
        origin = (
            f'simulated frames with images of {width} x {height}, as there are no data in {root}'
        )
    else:
        origin = f'the training data of {cfg.filename}' + (f', in {root}' if root else '')
    batches = list(itertools.islice(Runner.build_dataloader(loader, seed=0), _BATCHES))
    return batches, origin


def build_step(cfg: Config, variant: Variant, device: torch.device) -> Step:
    """Build what one variant does with a batch.

    Args:
        cfg: From :func:`prepare`.
        variant: Which one.
        device: Where it runs.

    Returns:
        A function of a collated batch.
    """
    torch.manual_seed(0)
    if variant.part == 'teacher':
        teacher = FrozenModel('teacher', **cfg.model.teacher)
        teacher.load()
        teacher.to(device)
        return lambda batch: teacher.feature(batch, device)
    if variant.part == 'student':
        model_config = cfg.model.student
        inputs = cfg.model.get('student_inputs')
    else:
        bottleneck = variant.size and dict(cfg.model.bottleneck, size=variant.size)
        model_config = dict(cfg.model, bottleneck=bottleneck)
        inputs = None
    with MODELS.switch_scope_and_registry(None) as registry:
        model = registry.build(model_config)
    model.init_weights()
    model.to(device).train()
    optim_wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
    return lambda batch: model.train_step(select_inputs(batch, inputs, 'student'), optim_wrapper)


def measure_seconds(
    variants: Mapping[str, Step],
    batches: Sequence[Batch],
    steps: int,
    warmup: int,
    device: torch.device,
) -> dict[str, list[float]]:
    """Time variants in turns: every one of them on one batch, then all on the next.

    Args:
        variants: Name to step.
        batches: Taken one after the other, again and again. They are not changed.
        steps: Rounds that count.
        warmup: Rounds before these.
        device: Where the steps run.

    Returns:
        Name to the duration of each of its steps that count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    rounds = itertools.islice(itertools.cycle(batches), warmup + steps)
    for number, batch in enumerate(rounds):
        for name, step in variants.items():
            # Preprocessing may write on samples; in training every batch is a fresh one.
            fresh = copy.deepcopy(batch)
            _synchronize(device)
            began = time.perf_counter()
            step(fresh)
            _synchronize(device)
            if number >= warmup:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def measure_peak(cfg: Config, variant: Variant, batches: Sequence[Batch], folder: Path) -> int:
    """Run one step on each batch in a fresh process and note the most memory it held.

    Args:
        cfg: From :func:`prepare`.
        variant: What to run.
        batches: One or more.
        folder: For what is handed over to the process.

    Returns:
        Bytes, as :class:`Cost` says.

    Raises:
        CibaError: The process died.
    """
    config_file, batch_file = folder / 'prepared.py', folder / 'batches.pth'
    if not config_file.is_file():
        cfg.dump(config_file)
        torch.save(batches, batch_file)
    return _run_apart(
        _peak_of_this_process,
        f'measured the memory of "{variant.name}"',
        config_file,
        variant,
        batch_file,
        torch.get_num_threads(),
    )


def _run_apart(function: Callable, what: str, *arguments: Any) -> Any:
    """Call a function in a process that has done its imports and nothing else: no model, no GPU."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise CibaError(
                f'the process that {what} died, most likely for want of memory. Give a smaller '
                '--batch-size or --image-size.'
            ) from error


def _peak_of_this_process(
    config_file: Path, variant: Variant, batch_file: Path, threads: int
) -> int:
    torch.set_num_threads(threads)
    cfg = Config.fromfile(config_file)
    device = _start(cfg)
    # Written by the process that started this one.
    batches = torch.load(batch_file, weights_only=False)
    before = psutil.Process().memory_info().rss
    step = build_step(cfg, variant, device)
    for batch in batches:
        step(batch)
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before


def _start(cfg: Config) -> torch.device:
    """Do in this process what a runner would do first; the device to run on."""
    read_checkpoints_safely()
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    # Building optimizers is announced parameter by parameter.
    MMLogger.get_instance('ciba_benchmark', log_level='WARNING')
    if not torch.cuda.is_available():
        return torch.device('cpu')
    # As tools/train.py has it.
    torch.set_float32_matmul_precision('high')
    return torch.device('cuda')


def _synchronize(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize()


def _without_pretrained(config: Any) -> Any:
    """A model config that starts from random weights instead of fetching some."""
    if isinstance(config, dict):
        kept = {name: _without_pretrained(value) for name, value in config.items()}
        if (kept.get('init_cfg') or {}).get('type') == 'Pretrained':
            kept['init_cfg'] = None
        return kept
    if isinstance(config, (list, tuple)):
        return type(config)(_without_pretrained(value) for value in config)
    return config


def _write_random_weights(role: str, arguments: dict, folder: Path) -> str:
    """A checkpoint of a frozen model as it is when it is built."""
    torch.manual_seed(0)
    path = folder / f'{role}.pth'
    torch.save({'state_dict': FrozenModel(role, **arguments).model.state_dict()}, path)
    return str(path)


def _write_random_bottlenecks(
    cfg: Config, sizes: list[int], folder: Path
) -> tuple[str, tuple[int, int]]:
    """A checkpoint as Algorithm 1 writes it, and the channels of the teacher and the student."""
    config_file = cfg.model.bottleneck.config
    if not Path(config_file).is_file():
        raise CibaError(f'{cfg.filename}: model.bottleneck.config: there is no {config_file}.')
    config = Config.fromfile(config_file).model
    config.teacher = cfg.model.teacher
    config.student.checkpoint = _write_random_weights('student', config.student, folder)
    config.bottleneck_sizes = sizes
    # There is nothing to keep, and a cache would refuse the random teacher.
    config.feature_cache = None
    model = MODELS.build(config)
    model.init_weights()
    path = folder / 'bottlenecks.pth'
    torch.save(
        {'state_dict': model.state_dict(), CHECKPOINT_KEY: model.checkpoint_metadata()}, path
    )
    bottleneck = next(iter(model.bottlenecks.values()))
    return str(path), (bottleneck.in_channels, bottleneck.out_channels)


def _simulate(root: Path, frames: int, image_size: tuple[int, int]) -> None:
    """Write a training and a validation scene with sensors like those of nuScenes.

    Runs in a process of its own, whose output is thrown away: converters draw progress bars.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # Here, because only nuScenes data need them and mmdet3d's part is slow to import.
    from nuscenes_simulation import SimulationSettings, simulate_nuscenes

    from ..detection.nuscenes.info_creation import create_info_files

    settings = SimulationSettings(
        frames_per_scene=frames,
        image_width=image_size[0],
        image_height=image_size[1],
        supersampling=1,
        lidar_azimuth_steps=1084,
        lidar_range=70.0,
        sweeps_per_keyframe=9,
    )
    simulate_nuscenes(root, ['scene-0061', 'scene-0103'], seed=0, settings=settings)
    create_info_files(root, settings.version)


def describe_device(device: torch.device) -> str:
    """The name of a GPU or of this machine's processor."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    information = Path('/proc/cpuinfo')
    lines = information.read_text().splitlines() if information.is_file() else []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return f'CPU {names[0] if names else platform.processor() or platform.machine()}'


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line of tools/benchmark.py.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    parser = argparse.ArgumentParser(
        description="Measure a distillation step beside the plain student's training step and the "
        "teacher's feature alone. Needs no checkpoints, and no data set either."
    )
    parser.add_argument('config', help='config of a distillation')
    parser.add_argument('--steps', type=int, default=20, help='steps of each that count')
    parser.add_argument('--warmup', type=int, default=3, help='steps of each before these')
    parser.add_argument('--batch-size', type=int, help="samples in a batch (default: the config's)")
    parser.add_argument(
        '--sizes', type=_numbers(','), metavar='H,...', help="code sizes (default: the config's)"
    )
    parser.add_argument(
        '--image-size',
        type=_numbers('x', 2),
        default=(1600, 900),
        metavar='WIDTHxHEIGHT',
        help='of the images simulated where there is no data set (default: 1600x900)',
    )
    parser.add_argument('--threads', type=int, help="of torch on the CPU (default: torch's choice)")
    parser.add_argument('--amp', action='store_true', help='in mixed precision (needs a GPU)')
    parser.add_argument('--markdown', action='store_true', help='print a Markdown table')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='config fields to override, as for tools/train.py',
    )
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    # What reading a config also asks for.
    parser.set_defaults(launcher='none', work_dir=None, local_rank=0)
    return parser.parse_args(arguments)


def _numbers(separator: str, count: int | None = None) -> Callable[[str], tuple[int, ...]]:
    """A parser of positive integers between separators."""

    def parse(text: str) -> tuple[int, ...]:
        words = text.split(separator)
        numbers = tuple(int(word) if word.isdigit() else 0 for word in words)
        if 0 in numbers or count not in (None, len(numbers)):
            raise argparse.ArgumentTypeError(f'{text!r} must be numbers with {separator!r} between')
        return numbers

    return parse


def show(comparison: Comparison, title: str, markdown: bool) -> None:
    """Print a comparison.

    Args:
        comparison: What to print.
        title: What was measured.
        markdown: Print a Markdown table instead of one for the terminal.
    """
    rows = comparison.rows()
    # A pipe has no width of its own.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    if markdown:
        lines = [f'| {" | ".join(row)} |' for row in rows]
        body: Any = '\n'.join([lines[0], '|---|' + '---:|' * (len(rows[0]) - 1), *lines[1:]])
    else:
        body = Table(box=SIMPLE_HEAD)
        for number, name in enumerate(rows[0]):
            body.add_column(name, justify='right' if number else 'left', no_wrap=True)
        for row in rows[1:]:
            body.add_row(*row)
    for part in (title, comparison.setting, f'Batches: {comparison.data}.\n', body):
        console.print(part, soft_wrap=True, markup=False)
    console.print(f'\n{comparison.verdict()}', soft_wrap=True, markup=False)


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
        comparison = compare(
            cfg, args.sizes, args.steps, args.warmup, args.batch_size, args.image_size
        )
        title = f'{args.config}, medians of {args.steps} steps taken in turns'
        show(comparison, title, args.markdown)

    exit_with_message(run, args.traceback)
