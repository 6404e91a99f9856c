"""Running a job of many steps: several at a time, none twice, and on from where it stopped."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterator, Mapping, Sequence

from mmengine.config import Config
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape

from ..errors import CibaError
from ..files import write_file
from ..shell import shell_command
from .measured_process import Measurement, run_measured

_GIBIBYTE = 2**30
_LOG_TAIL = 25
# Into a file or a pipe, a step says no more often how far it is; everything is in its log.
_SECONDS_BETWEEN_LINES = 15
# Steps from which on a job says after each of them how long the rest will take.
_LONG_JOB = 20


@dataclass
class Step:
    """One step of a job.

    Attributes:
        name: Its name in file names.
        title: What the user is told.
        command: Arguments for the Python interpreter.
        outputs: Files that are there once it is complete.
        after: Names of the steps whose results it uses.
        config: Its config file, if it has one.
        folder: A folder that it makes and that nothing else clears.
        resumes: Whether it is a training that goes on from the latest checkpoint in its work
            folder.
        usual_minutes: About how long it takes; replaced by what steps like it have taken.
    """

    name: str
    title: str
    command: list[str]
    outputs: list[Path]
    after: list[str] = field(default_factory=list)
    config: str | None = None
    folder: Path | None = None
    resumes: bool = False
    usual_minutes: float | None = None


class StepRunner:
    """Runs steps as soon as those before them are complete.

    A step is complete when it ran to its end with the same command, config and predecessors, and
    its outputs exist; it is not run again.

    Args:
        steps: The steps, those that others wait for first.
        root: Folder the commands are run in.
        work_dir: Where logs and records go.
        console: Where progress is shown.
        environment: Environment variables of every command, beside this process's own.
        summarise: What a line that a command with a config prints says about its progress, or
            None.
        workers: Steps to run at once.
    """

    def __init__(
        self,
        steps: list[Step],
        root: Path,
        work_dir: Path,
        console: Console,
        environment: Mapping[str, str],
        summarise: Callable[[str], str | None],
        workers: int = 2,
    ) -> None:
        self.steps = steps
        self.root = root
        self.work_dir = work_dir
        self.console = console
        self.environment = {**os.environ, **environment}
        self.summarise = summarise
        self.workers = workers
        self._clock = work_dir / 'clock.json'
        self._stop = threading.Event()
        self._progress: dict[str, str] = {}
        self._config_texts: dict[tuple[Path, int], str] = {}

    def run(self) -> None:
        """Run every step that is not complete.

        Raises:
            CibaError: A step failed. Those that were running are stopped; they go on next time.
        """
        self.work_dir.mkdir(parents=True, exist_ok=True)
        self._stop.clear()
        complete = {step.name for step in self.steps if self.is_complete(step)}
        for step in self.steps:
            if step.name in complete:
                minutes = self.record(step.name)['minutes']
                self.console.print(f'[green]✓[/] {escape(step.title)}: before, {minutes:.1f} min')
        waiting = [step for step in self.steps if step.name not in complete]
        self._show_time_left(waiting)
        began = time.monotonic()
        running: dict[Future, Step] = {}
        with _ended_like_interrupted(), ThreadPoolExecutor(self.workers) as pool, self._display():
            try:
                while waiting or running:
                    for step in list(waiting):
                        if len(running) < self.workers and complete.issuperset(step.after):
                            waiting.remove(step)
                            running[pool.submit(self._run_step, step)] = step
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        step = running.pop(future)
                        future.result()
                        complete.add(step.name)
                        self._show_time_left([*running.values(), *waiting])
            finally:
                self._stop.set()
                minutes = self.total_minutes() + (time.monotonic() - began) / 60
                write_file(self._clock, json.dumps({'minutes': minutes}) + '\n')

    def total_minutes(self) -> float:
        """How long this job has run, all attempts together."""
        if not self._clock.is_file():
            return 0.0
        return json.loads(self._clock.read_text(encoding='utf-8'))['minutes']

    def forget(self) -> None:
        """Remove everything that earlier runs have made."""
        for step in self.steps:
            if step.folder is not None and self._note(step).is_file():
                shutil.rmtree(step.folder, ignore_errors=True)
        shutil.rmtree(self.work_dir, ignore_errors=True)

    def is_complete(self, step: Step) -> bool:
        """Whether a step ran to its end with the same command and inputs, and its outputs exist."""
        record_file = self._record_file(step.name)
        if not record_file.is_file() or not all(output.is_file() for output in step.outputs):
            return False
        return self.record(step.name)['fingerprint'] == self._fingerprint(step)

    def record(self, name: str) -> dict[str, float]:
        """Return what a complete step took: ``minutes`` and ``peak_memory_gb``."""
        return json.loads(self._record_file(name).read_text(encoding='utf-8'))

    def expected_minutes(self, step: Step) -> float | None:
        """Estimate how long a step takes.

        Args:
            step: One of the steps.

        Returns:
            Minutes that it took before; else the mean of those that run the same tool with the same
            config; else its usual minutes at the pace that is seen here; None if none is known.
        """
        alike = [
            other
            for other in self.steps
            if other.config == step.config is not None and other.command[0] == step.command[0]
        ]
        for group in ([step], alike):
            taken = self._minutes_taken(group)
            if taken:
                return sum(taken.values()) / len(taken)
        if step.usual_minutes is None:
            return None
        usual = {other.name: other.usual_minutes for other in self.steps if other.usual_minutes}
        taken = self._minutes_taken([other for other in self.steps if other.name in usual])
        pace = sum(taken.values()) / sum(usual[name] for name in taken) if taken else 1.0
        return step.usual_minutes * pace

    def estimate_minutes_left(self, steps: Sequence[Step]) -> tuple[float, int]:
        """Estimate how long steps take together, as many at once as there are workers.

        Args:
            steps: Those that are not complete.

        Returns:
            Minutes, and the number of steps of which nothing is known.
        """
        expected = [self.expected_minutes(step) for step in steps]
        known = [minutes for minutes in expected if minutes is not None]
        longest = max(known, default=0.0)
        return max(longest, sum(known) / self.workers), len(expected) - len(known)

    def _minutes_taken(self, steps: Sequence[Step]) -> dict[str, float]:
        return {
            step.name: self.record(step.name)['minutes']
            for step in steps
            if self._record_file(step.name).is_file()
        }

    def _show_time_left(self, steps: Sequence[Step]) -> None:
        minutes, unknown = self.estimate_minutes_left(steps)
        # A job of steps that are all unknown has nothing to say; a short list says it itself.
        if minutes and len(self.steps) >= _LONG_JOB:
            more = f' and {unknown} steps never run before' if unknown else ''
            self.console.print(
                f'{len(self.steps) - len(steps)} of {len(self.steps)} steps complete, about '
                f'{format_minutes(minutes)}{more} left'
            )

    def _run_step(self, step: Step) -> None:
        self._clear_earlier_attempt(step)
        log_file = self.work_dir / f'{step.name}.log'
        self._show(step, 'starting')
        last_shown = -math.inf

        def report(line: str) -> None:
            nonlocal last_shown
            progress = self.summarise(line) if step.config else line.strip()
            pause = 0 if self.console.is_terminal else _SECONDS_BETWEEN_LINES
            if progress and time.monotonic() - last_shown >= pause:
                last_shown = time.monotonic()
                self._show(step, progress)

        measured = run_measured(
            [sys.executable, *self._command(step)],
            self.root,
            self.environment,
            log_file,
            report,
            self._stop,
        )
        self._progress.pop(step.name, None)
        missing = [str(output) for output in step.outputs if not output.is_file()]
        if measured.returncode != 0 or missing:
            raise CibaError(_describe_failure(step, measured, missing, log_file))
        minutes, memory = measured.seconds / 60, measured.peak_bytes / _GIBIBYTE
        record = {
            'fingerprint': self._fingerprint(step),
            'minutes': minutes,
            'peak_memory_gb': memory,
        }
        write_file(self._record_file(step.name), json.dumps(record, indent=2) + '\n')
        self.console.print(
            f'[green]✓[/] {escape(step.title)}: {minutes:.1f} min, {memory:.1f} GB of memory'
        )

    def _command(self, step: Step) -> list[str]:
        return [*step.command, '--resume'] if step.resumes else step.command

    def _show(self, step: Step, progress: str) -> None:
        line = f'{step.title}: {progress}'
        if self.console.is_terminal:
            self._progress[step.name] = line
        else:
            self.console.print(escape(line), soft_wrap=True)

    def _display(self) -> Live:
        """Return the lines that say what is running, kept up to date on a terminal."""

        def render() -> Group:
            return Group(*(f'  … {escape(line)}' for line in list(self._progress.values())))

        return Live(
            get_renderable=render,
            console=self.console,
            refresh_per_second=2,
            transient=True,
            auto_refresh=self.console.is_terminal,
        )

    def _clear_earlier_attempt(self, step: Step) -> None:
        """Remove what an earlier attempt left, unless this one can go on from it; note this one."""
        self._record_file(step.name).unlink(missing_ok=True)
        fingerprint = self._fingerprint(step)
        # Without a note the folder is not this command's to remove.
        if step.folder is not None and self._note(step).is_file():
            same = self._note(step).read_text(encoding='utf-8').strip() == fingerprint
            if not (same and step.resumes):
                shutil.rmtree(step.folder, ignore_errors=True)
        write_file(self._note(step), f'{fingerprint}\n')

    def _note(self, step: Step) -> Path:
        return self.work_dir / f'{step.name}.begun'

    def _record_file(self, name: str) -> Path:
        return self.work_dir / f'{name}.done.json'

    def _fingerprint(self, step: Step) -> str:
        """Return what changes with the step's command, its config and what it depends on."""
        parts = list(step.command)
        if step.config:
            parts.append(self._config_text(self.root / step.config))
        parts += [self._fingerprint(other) for other in self.steps if other.name in step.after]
        return hashlib.sha256('\n'.join(parts).encode()).hexdigest()

    def _config_text(self, config: Path) -> str:
        # Hundreds of steps may share a few configs, which take a while to read.
        key = (config, config.stat().st_mtime_ns)
        if key not in self._config_texts:
            self._config_texts[key] = Config.fromfile(str(config)).pretty_text
        return self._config_texts[key]


@contextmanager
def _ended_like_interrupted() -> Iterator[None]:
    """Let SIGTERM end a job as Ctrl-C does: with its steps, which would go on without it.

    A shell has its background jobs ignore SIGINT, and so would their steps.
    """
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may say what a signal does.
        yield
        return
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, signal.default_int_handler) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before):
            signal.signal(number, handler)


def format_minutes(minutes: float) -> str:
    """Return a length of time in hours and minutes."""
    hours, minutes = divmod(round(minutes), 60)
    return f'{hours} h {minutes} min' if hours else f'{minutes} min'


def _describe_failure(step: Step, measured: Measurement, missing: list[str], log_file: Path) -> str:
    tail = log_file.read_text(encoding='utf-8').splitlines()[-_LOG_TAIL:]
    reason = f'ended with status {measured.returncode}'
    if measured.returncode == 0:
        reason = f'did not write {", ".join(missing)}'
    return (
        f'{step.title}: {shell_command(*step.command)} {reason}. The end of {log_file}:\n'
        + '\n'.join(tail)
        + '\nThe steps before are kept: run the same command again to go on here.'
    )
