"""Our numbers beside the paper's, as text, CSV and HTML."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ..analysis import mean_and_deviation, welch_p_value
from ..errors import CibaError
from ..files import write_file
from .paper_tables import PaperTable, Row
from .plan import SCORES, Plan, Run

# The paper's deviations and p-values are over five seeds.
PAPER_RUNS = 5


@dataclass(frozen=True)
class Scores:
    """One column of one row.

    Attributes:
        values: One score for each seed.
        paper: The paper's mean and sample deviation.
        p_value: Of the difference to the row it is compared with; None without one, NaN where
            nothing varies.
        paper_p_value: The same from the paper's means and deviations.
    """

    values: Sequence[float]
    paper: tuple[float, float]
    p_value: float | None
    paper_p_value: float | None

    @property
    def ours(self) -> str:
        """Mean and deviation; without a deviation for a single seed."""
        return format_scores(self.values)


def read_table(table: PaperTable, plan: Plan, seeds: Sequence[int]) -> list[tuple[Row, list]]:
    """Collect the scores of finished runs.

    Args:
        table: Which rows and columns.
        plan: Where the runs are.
        seeds: Which seeds.

    Returns:
        For each row its :class:`Scores`, column by column.

    Raises:
        CibaError: A run has no scores, or not the metric.
    """
    values = {
        (row.method, row.modality): [
            [_read_score(plan, row, seed, part, metric) for seed in seeds]
            for _, part, metric in table.columns
        ]
        for row in table.rows
    }
    reported = {(row.method, row.modality): row.paper for row in table.rows}
    result = []
    for row in table.rows:
        scores = []
        for column, found in enumerate(values[row.method, row.modality]):
            p_value = paper_p_value = None
            if row.compared_with is not None:
                p_value = compare_scores(found, values[row.compared_with][column])
                paper_p_value = welch_p_value(
                    *row.paper[column],
                    PAPER_RUNS,
                    *reported[row.compared_with][column],
                    PAPER_RUNS,
                )
            scores.append(Scores(found, row.paper[column], p_value, paper_p_value))
        result.append((row, scores))
    return result


def write_table(
    table: PaperTable, rows: list[tuple[Row, list[Scores]]], stem: Path, note: str
) -> Table:
    """Write a table as ``.txt``, ``.csv`` and ``.html``.

    Args:
        table: What it is.
        rows: What :func:`read_table` found.
        stem: Path without the ending.
        note: What the reader has to know, such as that the data are a stand-in.

    Returns:
        The table for the terminal.
    """
    header = ['Method', 'Modality']
    for name, _, _ in table.columns:
        header += [name, f'{name} (paper)', f'{name} p', f'{name} p (paper)']
    body = []
    for row, scores in rows:
        cells = [row.method, row.modality]
        for score in scores:
            mean, deviation = score.paper
            cells += [score.ours, f'{mean:.2f} ± {deviation:.2f}']
            cells += [format_p_value(score.p_value), format_p_value(score.paper_p_value)]
        body.append(cells)
    title = f'{table.title}; {count_seeds(rows[0][1][0].values)}. {note}'.strip()
    return write_cells(title, header, body, stem)


def count_seeds(seeds: Sequence) -> str:
    """How many there are, in words."""
    return '1 seed' if len(seeds) == 1 else f'{len(seeds)} seeds'


def write_cells(
    title: str, header: Sequence[str], body: Sequence[Sequence[str]], stem: Path
) -> Table:
    """Write rows of text as ``.txt``, ``.csv`` and ``.html``.

    Args:
        title: Above the table.
        header: Names of the columns.
        body: The rows.
        stem: Path without the ending.

    Returns:
        The table for the terminal.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows([header, *body])
    write_file(stem.with_name(f'{stem.name}.csv'), text.getvalue())
    write_file(stem.with_name(f'{stem.name}.html'), _to_html(title, header, body) + '\n')
    widths = [max(len(row[i]) for row in (header, *body)) for i in range(len(header))]
    lines = [
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        for row in (header, *body)
    ]
    write_file(stem.with_name(f'{stem.name}.txt'), '\n'.join((title, '', *lines, '')))
    shown = Table(title=title, box=SIMPLE_HEAD, title_justify='left')
    for index, name in enumerate(header):
        shown.add_column(name, justify='left' if index < 2 else 'right', no_wrap=index < 2)
    for row in body:
        shown.add_row(*row)
    return shown


def _read_score(plan: Plan, row: Row, seed: int, part: str, metric: str) -> float:
    file = plan.folder(Run(row.config, seed, row.size)) / SCORES
    if not file.is_file():
        raise CibaError(f'{row.method}, {row.modality}: there is no {file}; run it again.')
    scores = json.loads(file.read_text(encoding='utf-8'))[part]
    if metric not in scores:
        raise CibaError(f'{file} has no {metric}; it has {", ".join(scores)}.')
    return scores[metric]


def compare_scores(ours: Sequence[float], others: Sequence[float]) -> float:
    """Welch's p-value between two rows.

    Args:
        ours: One score for each seed.
        others: The same of the row it is compared with.

    Returns:
        The two-sided p-value; NaN for a single seed and where nothing varies.
    """
    if len(ours) < 2:
        return math.nan
    one, other = mean_and_deviation(ours), mean_and_deviation(others)
    return welch_p_value(*one, len(ours), *other, len(others))


def format_scores(values: Sequence[float]) -> str:
    """Mean and sample deviation of scores; without a deviation for a single seed."""
    if len(values) == 1:
        return f'{values[0]:.2f}'
    mean, deviation = mean_and_deviation(values)
    return f'{mean:.2f} ± {deviation:.2f}'


def format_p_value(value: float | None) -> str:
    """A p-value to three digits; nothing for None, a dash for NaN."""
    if value is None:
        return ''
    if math.isnan(value):
        return '-'
    return '< 0.001' if value < 0.001 else f'{value:.3f}'


_STYLE = """body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem; color: #1b2229; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.7rem; border-bottom: 1px solid #d5dbe1; text-align: right; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
td:nth-child(4n) { color: #56616c; }"""


def _to_html(title: str, header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    head = ''.join(f'<th>{escape(name)}</th>' for name in header)
    lines = [''.join(f'<td>{escape(cell)}</td>' for cell in row) for row in body]
    rows = '\n'.join(f'<tr>{line}</tr>' for line in lines)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><style>{_STYLE}</style></head>\n'
        f'<body><h1>{escape(title)}</h1>\n<table><thead><tr>{head}</tr></thead>\n'
        f'<tbody>\n{rows}\n</tbody></table></body></html>'
    )
