"""The body of tools/reproduce.py: make the paper's tables and figures."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Sequence

import torch
from rich.console import Console
from rich.table import Table

from ..checkpoints.files import read_checkpoints_safely
from ..engine.step_runner import StepRunner, format_minutes
from ..errors import CibaError, exit_with_message
from ..quickstart.steps import reproducible_environment, summarise_progress
from .data_sets import demo_options, demo_steps, find_missing_data, make_demo_root
from .plan import Plan
from .tables import TEXT_WIDTH
from .targets import TARGETS, Reproduction


def reproduce(
    root: Path,
    targets: Sequence[str],
    seeds: Sequence[int],
    demo: bool = False,
    dry_run: bool = False,
) -> None:
    """Make tables and figures, after the trainings that they need and that are missing.

    Args:
        root: The project's folder.
        targets: Names of :data:`TARGETS`.
        seeds: Seeds of every row.
        demo: Use synthetic data and short trainings.
        dry_run: Only list the missing steps and data.

    Raises:
        CibaError: Data are missing, or a step failed.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        # A file or a pipe has no width that tables must fit.
        console.width = TEXT_WIDTH
    work_dir = root / 'work_dirs' / ('reproduce_demo' if demo else 'reproduce')
    processes = max(1, torch.cuda.device_count()) if 'table2' in targets else 1
    base = make_demo_root(root, work_dir) if demo else root
    plan = Plan(base, work_dir, processes=processes)
    if demo:
        plan.options, plan.first_steps = demo_options(), demo_steps(base)
    job = Reproduction(plan, work_dir / 'results', seeds, demo, console)
    writers = [TARGETS[target](job) for target in targets]
    workers = 1 if processes > 1 else torch.cuda.device_count() or len(os.sched_getaffinity(0))
    environment = {} if torch.cuda.is_available() else reproducible_environment()
    runner = StepRunner(
        plan.steps, base, work_dir, console, environment, summarise_progress, workers
    )
    waiting = [step.config for step in plan.steps if not runner.is_complete(step)]
    # The demo makes its data itself.
    missing = [] if demo else find_missing_data(base, waiting)
    if dry_run:
        console.print(_list_steps(runner))
        for message in missing:
            console.print(f'Missing data: {message}', markup=False, soft_wrap=True)
        return
    if missing:
        raise CibaError('\n'.join(missing))
    runner.run()
    for write in writers:
        write()


def _list_steps(runner: StepRunner) -> Table:
    """List the missing steps, with the time that they or similar ones took before."""
    table = Table(title='What would be run', title_justify='left')
    table.add_column('step')
    table.add_column('minutes', justify='right')
    waiting = [step for step in runner.steps if not runner.is_complete(step)]
    for step in waiting:
        minutes = runner.expected_minutes(step)
        table.add_row(step.name, '?' if minutes is None else f'{minutes:.1f}')
    minutes, unknown = runner.estimate_minutes_left(waiting)
    table.caption = f'about {format_minutes(minutes)}, {runner.workers} steps at a time'
    if unknown:
        table.caption += f', and {unknown} steps whose time is not known yet'
    return table


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line of tools/reproduce.py.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    parser = argparse.ArgumentParser(
        description="Make the paper's tables and figures: run the missing trainings, and write our "
        'numbers beside the printed ones. It can be stopped and started again.'
    )
    parser.add_argument(
        'targets', nargs='+', choices=sorted(TARGETS), metavar='TARGET', help=', '.join(TARGETS)
    )
    parser.add_argument(
        '--seeds', type=int, metavar='N', help='seeds per row (default: 5; demo: 3)'
    )
    parser.add_argument(
        '--demo', action='store_true', help='synthetic data that the tool makes, short trainings'
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='list what would be run, and missing data'
    )
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    args = parser.parse_args(arguments)
    if args.seeds is not None and args.seeds < 1:
        parser.error('--seeds must be at least 1')
    return args


def main(root: Path, arguments: list[str] | None = None) -> None:
    """Run tools/reproduce.py.

    Args:
        root: The project's folder.
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_args(arguments)
    os.environ.setdefault('LOCAL_RANK', '0')
    seeds = range(args.seeds or (3 if args.demo else 5))

    def run() -> None:
        read_checkpoints_safely()
        targets = list(dict.fromkeys(args.targets))
        reproduce(root, targets, seeds, args.demo, args.dry_run)

    try:
        exit_with_message(run, args.traceback)
    except KeyboardInterrupt:
        print('\nStopped. Run the same command again to go on from here.', file=sys.stderr)
        sys.exit(130)
