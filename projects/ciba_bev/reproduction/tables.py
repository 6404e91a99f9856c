"""Our numbers beside the paper's, as text, CSV and HTML."""

from __future__ import annotations

import io
import math
from html import escape
from pathlib import Path
from typing import Sequence

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from ..analysis import mean_and_deviation, welch_p_value
from ..files import write_file
from .paper_tables import PaperTable, Row
from .plan import Plan, Run

# The paper's means, deviations and p-values are over so many seeds.
PAPER_SEEDS = 5
# Heading of a column, and the split and full name of its score.
METRICS = {
    'Val.': ('validation', 'accuracy/top1'),
    'Test': ('test', 'accuracy/top1'),
    'F1-micro': ('test', 'f1/micro'),
    'F1-macro': ('test', 'f1/macro'),
}
# Characters of a line of a text file; no table is as wide.
TEXT_WIDTH = 240

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.3rem 0.7rem; border-bottom: 1px solid #d5dbe1; text-align: right; }}
:is(th, td):nth-child(-n + 2) {{ text-align: left; }}
</style></head>
<body><h1>{title}</h1>
{table}
</body></html>
"""


def read_scores(
    table: PaperTable, plan: Plan, seeds: Sequence[int]
) -> dict[Row, list[list[float]]]:
    """Read the scores of finished runs.

    Args:
        table: Which rows and columns.
        plan: Where the runs are.
        seeds: Which seeds.

    Returns:
        For each row, for each column, the score of each seed, in percent.

    Raises:
        CibaError: A run has no scores, or not the metric.
    """
    return {
        row: [
            [plan.score(Run(row.config, seed, row.size), *METRICS[column]) for seed in seeds]
            for column in table.columns
        ]
        for row in table.rows
    }


def tabulate_scores(
    table: PaperTable, scores: dict[Row, list[list[float]]]
) -> tuple[list[str], list[list[str]]]:
    """Arrange our scores and p-values beside the paper's.

    Args:
        table: The paper's table.
        scores: What :func:`read_scores` returned.

    Returns:
        Header and rows.
    """
    header = ['Method', 'Modality']
    for column in table.columns:
        header += [column, f'{column} (paper)', f'{column} p', f'{column} p (paper)']
    body = []
    for row, columns in scores.items():
        cells = [row.method, row.modality]
        other = row.compared_with
        for index, (ours, paper) in enumerate(zip(columns, row.paper)):
            p_value = paper_p_value = None
            if other is not None:
                p_value = compare_scores(ours, scores[other][index])
                paper_p_value = welch_p_value(*paper, PAPER_SEEDS, *other.paper[index], PAPER_SEEDS)
            cells += [format_scores(ours), f'{paper.mean:.2f} ± {paper.deviation:.2f}']
            cells += [format_p_value(p_value), format_p_value(paper_p_value)]
        body.append(cells)
    return header, body


def write_cells(
    title: str, header: Sequence[str], body: Sequence[Sequence[str]], stem: Path
) -> Group:
    """Write a table as ``.txt``, ``.csv`` and ``.html``.

    Args:
        title: Above the table.
        header: Names of the columns.
        body: The cells, row by row.
        stem: Path without the ending.

    Returns:
        Title and table, to be printed by rich.

    Raises:
        CibaError: A file cannot be written.
    """
    frame = pd.DataFrame(body, columns=header)
    write_file(f'{stem}.csv', frame.to_csv(index=False))
    page = _PAGE.format(title=escape(title), table=frame.to_html(index=False, border=0))
    write_file(f'{stem}.html', page)
    table = Table(box=SIMPLE_HEAD)
    for index, name in enumerate(header):
        table.add_column(name, justify='left' if index < 2 else 'right', no_wrap=index < 2)
    for row in body:
        table.add_row(*map(Text, row))
    shown = Group(Text(title), table)
    text = Console(file=io.StringIO(), width=TEXT_WIDTH, color_system=None)
    text.print(shown)
    lines = (line.rstrip() for line in text.file.getvalue().rstrip().splitlines())
    write_file(f'{stem}.txt', '\n'.join(lines) + '\n')
    return shown


def compare_scores(ours: Sequence[float], others: Sequence[float]) -> float:
    """Return Welch's p-value between two rows.

    Args:
        ours: One score for each seed.
        others: The same of the other row.

    Returns:
        The two-sided p-value; NaN for a single seed and where nothing varies.
    """
    if len(ours) < 2:
        return math.nan
    return welch_p_value(
        *mean_and_deviation(ours), len(ours), *mean_and_deviation(others), len(others)
    )


def count_seeds(seeds: Sequence[int]) -> str:
    """Return the number of seeds with its noun."""
    return f'{len(seeds)} seed{"" if len(seeds) == 1 else "s"}'


def format_scores(values: Sequence[float]) -> str:
    """Return mean and sample deviation of scores; of a single seed, its score."""
    if len(values) == 1:
        return f'{values[0]:.2f}'
    return '{:.2f} ± {:.2f}'.format(*mean_and_deviation(values))


def format_p_value(value: float | None) -> str:
    """Return a p-value with three digits; of None nothing, of NaN a dash."""
    if value is None:
        return ''
    if math.isnan(value):
        return '-'
    return '< 0.001' if value < 0.001 else f'{value:.3f}'
