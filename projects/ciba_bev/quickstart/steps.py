"""Run the quickstart: the whole method, from nothing, in a simulated world.

Simulates a driving world in the nuScenes format; trains a small LiDAR teacher and a small camera
student in it; trains bottlenecks between the two (Algorithm 1); distils the student with plain MSE
and with CIBA (Algorithm 2); scores all four on scenes that none was trained on, and measures the
effective rank of their BEV features. Complete steps are not repeated; an interrupted training
resumes from its last complete epoch.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ..engine.step_runner import Step, StepRunner
from ..errors import CibaError, exit_with_message
from ..files import write_file
from .report import SPREADS, ReportRow, write_report

METRICS = ('NDS', 'mAP', 'mATE', 'mASE', 'mAOE', 'mAVE', 'mAAE')
VERSION = 'v1.0-mini'
SEED = 0
# Frames that the report shows of every model, the same ones.
PICTURES = 2
# The columns of the results that fit into 80 columns of a terminal.
_TERMINAL_COLUMNS = ('model', 'NDS', 'mAP', 'effective rank', 'training', 'NDS in the paper')
_PROGRESS = re.compile(
    r'Epoch\((train|val|test)\)\s+(\[.*?\](?=\s)).*?eta: (\S+)(?:.*? loss: (\S+))?'
)


@dataclass(frozen=True)
class Trained:
    """A detector that the quickstart trains and scores.

    Attributes:
        key: Its name in file names.
        title: Its name in tables.
        config: Config of its training.
        plain_config: Config of its test: a distilled student is a plain student.
        paper_nds: NDS of its row of the paper's Table 2, in percent.
    """

    key: str
    title: str
    config: str
    plain_config: str
    paper_nds: float


_STUDENT = 'configs/quickstart_bevformer.py'
_TEACHER = 'configs/quickstart_object_dgcnn.py'
MODELS = (
    Trained('teacher', 'teacher (LiDAR)', _TEACHER, _TEACHER, 66.7),
    Trained('student', 'student (cameras)', _STUDENT, _STUDENT, 43.4),
    Trained('mse', 'student, MSE', 'configs/quickstart_mse_bevformer.py', _STUDENT, 43.8),
    Trained('ciba', 'student, CIBA (8)', 'configs/quickstart_ciba_bevformer_h8.py', _STUDENT, 44.4),
)
BOTTLENECK = 'configs/quickstart_bottleneck_bevformer.py'


class Quickstart:
    """The steps of the quickstart and their results.

    Args:
        root: The project's folder, which holds ``configs`` and ``tools``.
        work_dir: Where everything but the data set goes.
        console: Where progress is shown.
    """

    def __init__(self, root: Path, work_dir: Path, console: Console) -> None:
        self.root = root
        self.work_dir = work_dir
        self.bottlenecks = work_dir / 'bottleneck' / 'bottlenecks.json'
        self.collapse = work_dir / 'collapse' / 'collapse.json'
        self.runner = StepRunner(
            self._list_steps(),
            root,
            work_dir,
            console,
            reproducible_environment(),
            summarise_progress,
        )

    def _config(self, path: str) -> Config:
        return Config.fromfile(str(self.root / path))

    def _last_checkpoint(self, key: str, config: str) -> Path:
        return self.work_dir / key / f'epoch_{self._config(config).train_cfg.max_epochs}.pth'

    def _list_steps(self) -> list[Step]:
        """Return the steps; those that the longest chain of others waits for come first."""
        teacher, student, mse, ciba = MODELS
        return [
            *self._data_steps(),
            self._training('student', 'Train the student', _STUDENT, 'convert'),
            self._training('teacher', 'Train the teacher', _TEACHER, 'convert'),
            self._training(
                'bottleneck',
                'Train bottlenecks from teacher to student',
                BOTTLENECK,
                'train_teacher',
                'train_student',
            ),
            self._training('ciba', 'Distil the student with CIBA', ciba.config, 'train_bottleneck'),
            self._training('mse', 'Distil the student with MSE', mse.config, 'train_teacher'),
            *(self._scoring(model) for model in (mse, ciba, student, teacher)),
            self._analysis([student, mse, ciba]),
        ]

    def _data_steps(self) -> list[Step]:
        data_root = self.root / self._config(_TEACHER).data_root
        return [
            Step(
                'simulate',
                'Simulate a driving world in the nuScenes format',
                ['tools/simulate_nuscenes.py', '--out', str(data_root), '--seed', str(SEED)],
                [data_root / VERSION / 'sample.json'],
                folder=data_root,
            ),
            Step(
                'convert',
                'Make the info files that the data sets read',
                ['tools/create_data.py', '--root-path', str(data_root), '--version', VERSION],
                [data_root / f'nuscenes_infos_{split}.pkl' for split in ('train', 'val')],
                after=['simulate'],
            ),
        ]

    def _training(self, key: str, title: str, config: str, *after: str) -> Step:
        folder = self.work_dir / key
        fixed = ['--cfg-options', f'randomness.seed={SEED}']
        if not torch.cuda.is_available():
            # On a GPU some operators have no deterministic form, and would stop the training.
            fixed.append('randomness.deterministic=True')
        is_bottleneck = config == BOTTLENECK
        return Step(
            f'train_{key}',
            f'{title} ({config})',
            ['tools/train.py', config, '--work-dir', str(folder), *fixed],
            [self.bottlenecks if is_bottleneck else self._last_checkpoint(key, config)],
            after=list(after),
            config=config,
            folder=folder,
            resumes=True,
        )

    def _scoring(self, model: Trained) -> Step:
        folder = self.work_dir / model.key
        scores = folder / 'metrics.json'
        checkpoint = self._last_checkpoint(model.key, model.config)
        pictures = self.work_dir / 'pictures' / model.key
        return Step(
            f'score_{model.key}',
            f'Score the {model.title} on the validation scenes',
            [
                *('tools/test.py', model.plain_config, str(checkpoint)),
                *('--work-dir', str(folder), '--out', str(scores)),
                *('--show-dir', str(pictures), '--show-count', str(PICTURES)),
            ],
            [scores],
            after=[f'train_{model.key}'],
            config=model.config,
        )

    def _analysis(self, models: list[Trained]) -> Step:
        command = ['tools/analyze_collapse.py', '--out', str(self.collapse.parent)]
        for model in models:
            checkpoint = self._last_checkpoint(model.key, model.config)
            command += ['--model', model.key, model.config, str(checkpoint)]
        return Step(
            'analyze',
            "Measure the effective rank of the students' BEV features",
            [*command, '--bottlenecks', str(self.bottlenecks)],
            [self.collapse],
            after=[f'train_{model.key}' for model in models],
        )

    def run(self) -> list[ReportRow]:
        """Run every step that is not complete.

        Returns:
            One row for each detector.

        Raises:
            CibaError: A step failed.
        """
        self.runner.run()
        ranks = {
            model['label']: model['effective_rank'] for model in _read_json(self.collapse)['models']
        }
        ranks['teacher'] = _read_json(self.bottlenecks)['metrics']['teacher/effective_rank']
        return [self._collect(model, ranks[model.key]) for model in MODELS]

    def _collect(self, model: Trained, rank: float) -> ReportRow:
        metrics = _read_json(self.work_dir / model.key / 'metrics.json')
        record = self.runner.record(f'train_{model.key}')
        return ReportRow(
            key=model.key,
            title=model.title,
            config=model.config,
            metrics={name: find_metric(metrics, name) for name in METRICS},
            effective_rank=rank,
            training_minutes=record['minutes'],
            peak_memory_gb=record['peak_memory_gb'],
            paper_nds=model.paper_nds,
        )


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding='utf-8'))


def reproducible_environment() -> dict[str, str]:
    """Return environment variables that make a step reproducible on one machine, and faster.

    One thread a step: two steps run at once, and sums are always taken in the same order.
    """
    names = ('OMP', 'MKL', 'OPENBLAS', 'NUMBA')
    return {
        **{f'{name}_NUM_THREADS': '1' for name in names},
        'PYTHONHASHSEED': '0',
        # What cuBLAS needs to add in the same order every time.
        'CUBLAS_WORKSPACE_CONFIG': ':4096:8',
        'PYTHONUNBUFFERED': '1',
        # Freed memory is kept for the next tensor; asking for it anew takes a tenth of the time.
        'GLIBC_TUNABLES': 'glibc.malloc.mmap_threshold=2147483648'
        ':glibc.malloc.trim_threshold=4294967296:glibc.malloc.hugetlb=1',
    }


def summarise_progress(line: str) -> str | None:
    """Return what a line of mmengine's log says about progress, in short; None if nothing."""
    found = _PROGRESS.search(line)
    if not found:
        return None
    phase, position, left, loss = found.groups()
    verb = {'train': 'training', 'val': 'validating', 'test': 'scoring'}[phase]
    position = position.replace('][', ', ').strip('[]')
    position = f'epoch {position}' if phase == 'train' else position
    return f'{verb}: {position}, time left {left}' + (f', loss {loss}' if loss else '')


def find_metric(metrics: dict[str, float], name: str) -> float:
    """Return a metric by its short name, whatever prefix the evaluator gave it.

    Args:
        metrics: Full name to value.
        name: The last part of the full name.

    Returns:
        Its value.

    Raises:
        CibaError: No metric has this name, or more than one has.
    """
    found = [value for key, value in metrics.items() if key.split('/')[-1] == name]
    if len(found) != 1:
        raise CibaError(f'{len(found)} of the metrics are called {name}: {", ".join(metrics)}')
    return found[0]


def make_table(rows: list[ReportRow]) -> list[list[str]]:
    """Return the results as rows of text, the header first."""
    table = [['model', *METRICS, 'effective rank', 'training', 'peak memory', 'NDS in the paper']]
    for row in rows:
        numbers = [*((row.metrics[name], 3) for name in METRICS), (row.effective_rank, 1)]
        cells = ['' if value is None else f'{value:.{digits}f}' for value, digits in numbers]
        cells += [f'{row.training_minutes:.1f} min', f'{row.peak_memory_gb:.1f} GB']
        table.append([row.title, *cells, f'{row.paper_nds / 100:.3f}'])
    return table


def shorten_table(table: list[list[str]]) -> Table:
    """Return what fits into 80 columns of a table that :func:`make_table` returned."""
    shown = Table(box=SIMPLE_HEAD)
    kept = [table[0].index(name) for name in _TERMINAL_COLUMNS]
    for i in kept:
        shown.add_column(table[0][i], justify='right' if i else 'left', no_wrap=i == 0)
    for row in table[1:]:
        shown.add_row(*(row[i] for i in kept))
    return shown


def describe_spread() -> str:
    """Say which differences between two results are not evidence."""
    points, rank = SPREADS.values()
    return (
        f'Trainings that differ only in seed or machine differ by up to {points / 100:.3f} in NDS '
        f'and {rank:.1f} in effective rank. Models that are closer are not told apart.'
    )


def format_markdown(rows: list[list[str]]) -> str:
    """Return rows of text, the header first, as a Markdown table."""
    lines = [f'| {" | ".join(row)} |' for row in rows]
    return '\n'.join([lines[0], '|' + '---|' * len(rows[0]), *lines[1:]])


def run_quickstart(root: Path, work_dir: Path, fresh: bool) -> None:
    """Run the quickstart, print its table, and write ``results.md`` and ``report.html``.

    Args:
        root: The project's folder.
        work_dir: Where results go; data go where the configs look for them.
        fresh: Start over instead of keeping complete steps.

    Raises:
        CibaError: A step failed.
    """
    console = Console(highlight=False)
    quickstart = Quickstart(root, work_dir, console)
    if fresh:
        quickstart.runner.forget()
    rows = quickstart.run()
    minutes = quickstart.runner.total_minutes()
    table = make_table(rows)
    write_file(work_dir / 'results.md', f'{format_markdown(table)}\n\n{describe_spread()}\n')
    write_report(work_dir / 'report.html', work_dir, rows, minutes)
    console.rule('[bold]Results on the simulated validation scenes, scored by nuScenes')
    console.print(shorten_table(table))
    console.print(describe_spread())
    console.print(f'All steps together: {minutes:.1f} min')
    console.print(f'With all errors of nuScenes: {work_dir / "results.md"}')
    console.print(f'With spectra, losses and pictures: {work_dir / "report.html"}')


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line of tools/quickstart.py.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    parser = argparse.ArgumentParser(
        description='Simulate a small nuScenes, train a teacher, a student, bottlenecks and two '
        'distilled students, score them and measure the effective rank of their BEV features.'
    )
    parser.add_argument('--fresh', action='store_true', help='start over, keep nothing')
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    return parser.parse_args(arguments)


def main(root: Path, arguments: list[str] | None = None) -> None:
    """Run tools/quickstart.py.

    Args:
        root: The project's folder.
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_args(arguments)
    work_dir = root / 'work_dirs' / 'quickstart'
    try:
        exit_with_message(lambda: run_quickstart(root, work_dir, args.fresh), args.traceback)
    except KeyboardInterrupt:
        print('\nStopped. Run the same command again to continue from here.', file=sys.stderr)
        sys.exit(130)
