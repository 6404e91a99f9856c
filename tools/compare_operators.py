"""Compare the operators of mmcv_operators with mmcv's compiled ones: results and time.

    python tools/compare_operators.py [--threads N] [--only NAME ...]

It needs an mmcv with compiled operators. Both take turns; times are medians, and so is the ratio of
each turn's two. For one thread they are processor times, which other work on the machine hardly
changes; for several they are times of the clock on the wall.
"""

from __future__ import annotations

import argparse
import importlib
import sys

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import mmcv_operators
from ciba_bev.errors import CibaError, exit_with_message
from mmcv_operators.comparison import compare, make_cases


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--threads', type=int, default=1, help='of PyTorch and of the loops')
    parser.add_argument(
        '--repetitions',
        type=int,
        default=7,
        help='number of turns; medians are reported (default: 7)',
    )
    parser.add_argument('--only', nargs='+', default=[''], metavar='NAME', help='parts of names')
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Print the comparison.

    Args:
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_args(arguments)

    def run() -> None:
        for name in ('threads', 'repetitions'):
            if getattr(args, name) < 1:
                raise CibaError(f'{name} is {getattr(args, name)}; give 1 or more.')
        if mmcv_operators.is_used():
            raise CibaError(
                'this mmcv has no compiled operators to compare with. Run it in an environment '
                'with the package mmcv instead of mmcv-lite.'
            )
        torch.set_num_threads(args.threads)
        cases = [case for case in make_cases() if any(part in case.function for part in args.only)]
        if not cases:
            raise CibaError(f'no operator has {" or ".join(args.only)} in its name.')
        compiled = importlib.import_module('mmcv._ext')
        table = Table(box=SIMPLE_HEAD)
        for name in ('operator', 'size', 'compared with', 'error', 'its ms', 'our ms', 'ratio'):
            table.add_column(name, justify='right' if name.endswith(('ms', 'ratio')) else 'left')
        for case in cases:
            for *texts, other, ours, ratio in compare(case, compiled, args.repetitions):
                table.add_row(*texts, f'{other * 1e3:.2f}', f'{ours * 1e3:.2f}', f'{ratio:.2f}')
        # A pipe has no width of its own.
        Console(width=None if sys.stdout.isatty() else 160).print(table)

    exit_with_message(run, args.traceback)


if __name__ == '__main__':
    main()
