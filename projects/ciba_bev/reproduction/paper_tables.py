"""The paper's tables: the config of each row, and the scores that the paper reports for it.

They are read from ``paper/*.csv``. The columns between ``Modality`` and ``Config`` are the paper's,
as printed; of Table 1 with the deviations of Table 4. Where two tables disagree, Table 3 is taken:
its deviation of the validation accuracy of Audio-baseline (A18) is 0.33, that of Table 5 0.22.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).parent / 'paper'
_TITLES = {
    'table1a': 'Tables 1(a) and 4(a): RAVDESS, accuracy (%)',
    'table1b': 'Tables 1(b) and 4(b): MM-IMDB, F1 (%)',
    'table2': 'Table 2: nuScenes, validation',
    'table3': 'Tables 3 and 5: VGG-Sound, accuracy (%)',
    'table7': 'Table 7: RAVDESS, other teachers and students, accuracy (%)',
}


class Reported(NamedTuple):
    """A score as printed, in percent.

    Attributes:
        mean: Over five seeds; of Table 2, the score of one training.
        deviation: Sample standard deviation; None in Table 2.
    """

    mean: float
    deviation: float | None = None


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        method: Name of the method.
        modality: Teacher and student (``'A -> I'``), or the only modality.
        config: Name of the config that reproduces it.
        paper: Score of each column.
        size: Bottleneck size H that replaces the config's own.
        compared_with: Row whose difference from this one has a p-value.
    """

    method: str
    modality: str
    config: str
    paper: tuple[Reported, ...]
    size: int | None = None
    compared_with: Row | None = None


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        title: Its number, data set and unit.
        columns: Headings of the scores.
        rows: Its rows.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_paper_table(name: str) -> PaperTable:
    """Read a table of the paper.

    Args:
        name: Name of its file in ``paper``, without the ending.

    Returns:
        The table.
    """
    with open(_FOLDER / f'{name}.csv', encoding='utf-8', newline='') as file:
        reader = csv.DictReader(file)
        columns = tuple(reader.fieldnames[2 : reader.fieldnames.index('Config')])
        rows: dict[tuple[str, str], Row] = {}
        for cells in reader:
            method, modality = cells['Method'], cells['Modality']
            other = cells.get('Compared with')
            rows[method, modality] = Row(
                method,
                modality,
                cells['Config'],
                tuple(Reported(*map(float, cells[column].split('±'))) for column in columns),
                int(cells['Size']) if cells.get('Size') else None,
                rows[other, modality] if other else None,
            )
    return PaperTable(_TITLES[name], columns, tuple(rows.values()))


TABLES = {name: read_paper_table(name) for name in _TITLES}
