"""The body of tools/quickstart.py: from nothing to a scored teacher and student.

Simulates a driving world in the nuScenes format, converts it, trains a small LiDAR teacher and a
small camera student on it, and scores both on scenes neither has seen. A step that is complete is
not repeated; an interrupted training goes on from its last whole epoch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import CibaError
from .error_reports import exit_with_message
from .measured_process import Measurement, run_measured

MODELS = {
    'teacher': 'configs/quickstart_object_dgcnn.py',
    'student': 'configs/quickstart_bevformer.py',
}
METRICS = ('NDS', 'mAP', 'mATE', 'mASE', 'mAOE', 'mAVE', 'mAAE')
VERSION = 'v1.0-mini'
SEED = 0
# Sums are taken in another order with another number of threads: fixed, the numbers are the same
# on every run.
THREADS = 2
PICTURES = 2
_GIBIBYTE = 2**30
_LOG_TAIL = 25
_PROGRESS = re.compile(
    r'Epoch\((train|val|test)\)\s+(\[.*?\](?=\s)).*?eta: (\S+)(?:.*? loss: (\S+))?'
)


@dataclass
class Step:
    """One step of the quickstart.

    Attributes:
        name: Its name in file names.
        title: What the user is told.
        command: Arguments for the Python interpreter.
        outputs: Files that are there once it is complete.
        after: Names of the steps whose results it uses.
        config: Its config file, if it has one.
        folder: A folder that it makes and that nothing else writes to.
        resumes: Whether it goes on from what an interrupted attempt left in that folder.
    """

    name: str
    title: str
    command: list[str]
    outputs: list[Path]
    after: list[str] = field(default_factory=list)
    config: str | None = None
    folder: Path | None = None
    resumes: bool = False


class Quickstart:
    """The steps, what is known of them, and how they are run.

    Args:
        root: The project's folder, which holds ``configs`` and ``tools``.
        work_dir: Where everything but the data set goes.
        console: Where progress is shown.
    """

    def __init__(self, root: Path, work_dir: Path, console: Console) -> None:
        self.root = root
        self.work_dir = work_dir
        self.console = console
        self.data_root = root / Config.fromfile(str(root / MODELS['teacher'])).data_root
        self.steps = self._list_steps()

    def _list_steps(self) -> list[Step]:
        data_root = str(self.data_root)
        tables = self.data_root / VERSION / 'sample.json'
        infos = [self.data_root / f'nuscenes_infos_{split}.pkl' for split in ('train', 'val')]
        steps = [
            Step(
                'simulate',
                'Simulate a driving world in the nuScenes format',
                ['tools/simulate_nuscenes.py', '--out', data_root, '--seed', str(SEED)],
                [tables],
                folder=self.data_root,
            ),
            Step(
                'convert',
                'Make the info files that the data sets read',
                ['tools/create_data.py', '--root-path', data_root, '--version', VERSION],
                infos,
                after=['simulate'],
            ),
        ]
        for model, config in MODELS.items():
            folder = self.work_dir / model
            epochs = Config.fromfile(str(self.root / config)).train_cfg.max_epochs
            checkpoint = folder / f'epoch_{epochs}.pth'
            training = ['tools/train.py', config, '--work-dir', str(folder), '--resume']
            fixed = ['--cfg-options', f'randomness.seed={SEED}']
            if not torch.cuda.is_available():
                # On a GPU some operators have no deterministic form, and would stop the training.
                fixed.append('randomness.deterministic=True')
            scoring = ['tools/test.py', config, str(checkpoint), '--work-dir', str(folder)]
            scores = folder / 'metrics.json'
            pictures = self.work_dir / 'pictures' / model
            drawing = ['--show-dir', str(pictures), '--show-count', str(PICTURES)]
            steps += [
                Step(
                    f'train_{model}',
                    f'Train the {model} ({config})',
                    [*training, *fixed],
                    [checkpoint],
                    after=['convert'],
                    config=config,
                    folder=folder,
                    resumes=True,
                ),
                Step(
                    f'score_{model}',
                    f'Score the {model} on the validation scenes',
                    [*scoring, '--out', str(scores), *drawing],
                    [scores],
                    after=[f'train_{model}'],
                    config=config,
                ),
            ]
        return steps

    def run(self) -> dict[str, dict[str, Any]]:
        """Run every step that is not complete.

        Returns:
            ``teacher`` and ``student``, each with its metrics, training time in minutes and peak
            memory in GB.

        Raises:
            CibaError: A step failed.
        """
        self.work_dir.mkdir(parents=True, exist_ok=True)
        for number, step in enumerate(self.steps, start=1):
            self.console.rule(f'[bold]{number}/{len(self.steps)} {step.title}')
            if self.is_complete(step):
                record = json.loads(self._record_file(step).read_text(encoding='utf-8'))
                self.console.print(f'done before, in {record["minutes"]:.1f} min')
                continue
            self._run_step(step)
        return self._collect()

    def forget(self) -> None:
        """Remove everything that earlier runs of this command have made."""
        for step in self.steps:
            if step.folder is not None and (self.work_dir / f'{step.name}.begun').is_file():
                shutil.rmtree(step.folder, ignore_errors=True)
        shutil.rmtree(self.work_dir, ignore_errors=True)

    def is_complete(self, step: Step) -> bool:
        """Whether a step ran to its end with the same command and inputs, and its outputs exist."""
        record_file = self._record_file(step)
        if not record_file.is_file() or not all(output.is_file() for output in step.outputs):
            return False
        record = json.loads(record_file.read_text(encoding='utf-8'))
        return record['fingerprint'] == self._fingerprint(step)

    def _clear_earlier_attempt(self, step: Step) -> None:
        """Remove what an earlier attempt left, unless this one can go on from it; note this one."""
        self._record_file(step).unlink(missing_ok=True)
        note = self.work_dir / f'{step.name}.begun'
        fingerprint = self._fingerprint(step)
        # Without a note the folder is not this command's to remove.
        if step.folder is not None and note.is_file():
            same = note.read_text(encoding='utf-8').strip() == fingerprint
            if not (same and step.resumes):
                shutil.rmtree(step.folder, ignore_errors=True)
        _write_whole(note, fingerprint)

    def _run_step(self, step: Step) -> None:
        self._clear_earlier_attempt(step)
        log_file = self.work_dir / f'{step.name}.log'
        with self.console.status('starting') as status:

            def show(line: str) -> None:
                progress = summarise_progress(line) if step.config else line.strip()
                if progress and self.console.is_terminal:
                    status.update(escape(progress))
                elif progress:
                    self.console.print(escape(progress))

            measured = run_measured(
                [sys.executable, *step.command],
                self.root,
                {**os.environ, **_reproducible_environment()},
                log_file,
                show,
            )
        missing = [str(output) for output in step.outputs if not output.is_file()]
        if measured.returncode != 0 or missing:
            raise CibaError(_describe_failure(step, measured, missing, log_file))
        record = {
            'fingerprint': self._fingerprint(step),
            'minutes': measured.seconds / 60,
            'peak_memory_gb': measured.peak_bytes / _GIBIBYTE,
        }
        _write_whole(self._record_file(step), json.dumps(record, indent=2))
        minutes, memory = record['minutes'], record['peak_memory_gb']
        self.console.print(f'done in {minutes:.1f} min, with at most {memory:.1f} GB of memory')

    def _record_file(self, step: Step) -> Path:
        return self.work_dir / f'{step.name}.done.json'

    def _fingerprint(self, step: Step) -> str:
        """Changes when the step's command, its config or anything it depends on does."""
        parts = [*step.command]
        if step.config:
            parts.append(Config.fromfile(str(self.root / step.config)).pretty_text)
        parts += [self._fingerprint(other) for other in self.steps if other.name in step.after]
        return hashlib.sha256('\n'.join(parts).encode()).hexdigest()

    def _collect(self) -> dict[str, dict[str, Any]]:
        results = {}
        for model, config in MODELS.items():
            metrics = json.loads(
                (self.work_dir / model / 'metrics.json').read_text(encoding='utf-8')
            )
            training = next(step for step in self.steps if step.name == f'train_{model}')
            record = json.loads(self._record_file(training).read_text(encoding='utf-8'))
            results[model] = {
                'config': config,
                **{name: find_metric(metrics, name) for name in METRICS},
                'training_minutes': round(record['minutes'], 1),
                'peak_memory_gb': round(record['peak_memory_gb'], 2),
            }
        return results

    def total_minutes(self) -> float:
        """What all steps took together, also those complete before."""
        records = [self._record_file(step).read_text(encoding='utf-8') for step in self.steps]
        return sum(json.loads(record)['minutes'] for record in records)


def _reproducible_environment() -> dict[str, str]:
    threads = str(THREADS)
    return {
        'OMP_NUM_THREADS': threads,
        'MKL_NUM_THREADS': threads,
        'OPENBLAS_NUM_THREADS': threads,
        'PYTHONHASHSEED': '0',
        # What cuBLAS needs to add in the same order every time.
        'CUBLAS_WORKSPACE_CONFIG': ':4096:8',
        'PYTHONUNBUFFERED': '1',
        # Freed memory is kept for the next tensor; asking for it anew takes a tenth of the time.
        'GLIBC_TUNABLES': 'glibc.malloc.mmap_threshold=2147483648'
        ':glibc.malloc.trim_threshold=4294967296:glibc.malloc.hugetlb=1',
    }


def _describe_failure(step: Step, measured: Measurement, missing: list[str], log_file: Path) -> str:
    tail = log_file.read_text(encoding='utf-8').splitlines()[-_LOG_TAIL:]
    reason = f'ended with status {measured.returncode}'
    if measured.returncode == 0:
        reason = f'did not write {", ".join(missing)}'
    return (
        f'{step.title}: {" ".join(step.command)} {reason}. The end of {log_file}:\n'
        + '\n'.join(tail)
        + '\nThe steps before are kept: run the same command again to go on here.'
    )


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_name(f'.{path.name}.partial')
    partial.write_text(text + '\n', encoding='utf-8')
    os.replace(partial, path)


def summarise_progress(line: str) -> str | None:
    """What a line of mmengine's log says about progress, in short; None if nothing."""
    found = _PROGRESS.search(line)
    if not found:
        return None
    phase, position, left, loss = found.groups()
    verb = {'train': 'training', 'val': 'validating', 'test': 'scoring'}[phase]
    position = position.replace('][', ', ').strip('[]')
    position = f'epoch {position}' if phase == 'train' else position
    return f'{verb}: {position}, time left {left}' + (f', loss {loss}' if loss else '')


def find_metric(metrics: dict[str, float], name: str) -> float:
    """A metric by its short name, whatever prefix the evaluator gave it.

    Args:
        metrics: Full name to value.
        name: The last part of the full name.

    Returns:
        Its value.

    Raises:
        CibaError: No metric, or more than one, is called so.
    """
    found = [value for key, value in metrics.items() if key.split('/')[-1] == name]
    if len(found) != 1:
        raise CibaError(f'{len(found)} of the metrics are called {name}: {", ".join(metrics)}')
    return found[0]


def make_table(results: dict[str, dict[str, Any]]) -> list[list[str]]:
    """The results as rows of text, the header first."""
    rows = [['model', *METRICS, 'training', 'peak memory']]
    for model, result in results.items():
        rows.append(
            [model]
            + [f'{result[name]:.3f}' for name in METRICS]
            + [f'{result["training_minutes"]:.1f} min', f'{result["peak_memory_gb"]:.1f} GB']
        )
    return rows


def format_markdown(rows: list[list[str]]) -> str:
    """A Markdown table of rows of text, the header first."""
    lines = [f'| {" | ".join(row)} |' for row in rows]
    return '\n'.join([lines[0], '|' + '---|' * len(rows[0]), *lines[1:]])


def run_quickstart(root: Path, work_dir: Path, fresh: bool) -> None:
    """Run the quickstart, print its table, and write ``results.json`` and ``results.md``.

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
        quickstart.forget()
    results = quickstart.run()
    rows = make_table(results)
    _write_whole(work_dir / 'results.json', json.dumps(results, indent=2))
    _write_whole(work_dir / 'results.md', format_markdown(rows))
    table = Table(title='Simulated validation scenes, scored by nuScenes')
    for name in rows[0]:
        table.add_column(name, justify='left' if name == 'model' else 'right')
    for row in rows[1:]:
        table.add_row(*row)
    console.rule('[bold]Results')
    # A pipe has no width of its own; a table folded to 80 columns is hard to read.
    console.print(table, soft_wrap=not console.is_terminal)
    console.print(f'All steps together: {quickstart.total_minutes():.1f} min')
    console.print(f'Numbers:  {work_dir / "results.json"}')
    console.print(f'Pictures: {work_dir / "pictures"}')


def main(root: Path) -> None:
    """Run tools/quickstart.py.

    Args:
        root: The project's folder.
    """
    parser = argparse.ArgumentParser(
        description='Simulate a small nuScenes, train a teacher and a student on it, score both.'
    )
    parser.add_argument('--fresh', action='store_true', help='start over, keep nothing')
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    args = parser.parse_args()
    work_dir = root / 'work_dirs' / 'quickstart'
    try:
        exit_with_message(lambda: run_quickstart(root, work_dir, args.fresh), args.traceback)
    except KeyboardInterrupt:
        print('\nStopped. Run the same command again to go on from here.', file=sys.stderr)
        sys.exit(130)
