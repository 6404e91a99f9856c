"""Our scores beside the paper's: p-values by scipy, and the three files of a table."""

import html
import json

import pandas as pd
import pytest
from rich.console import Console
from scipy.stats import ttest_ind

from ciba_bev.errors import CibaError
from ciba_bev.reproduction.paper_tables import PaperTable, Reported, Row
from ciba_bev.reproduction.plan import Plan, Run
from ciba_bev.reproduction.tables import (
    compare_scores,
    count_seeds,
    format_p_value,
    read_scores,
    tabulate_scores,
    write_cells,
)

OURS = {'base': (70.0, 71.0, 72.5), 'better': (75.0, 74.0, 76.5)}
MSE = Row('MSE', 'A -> I', 'base', (Reported(70.0, 1.0),))
CIBA = Row('CIBA', 'A -> I', 'better', (Reported(72.0, 1.0),), 8, MSE)
SMALL = PaperTable('A table', ('Test',), (MSE, CIBA))
HEADER = ['Method', 'Modality', 'Test', 'Test (paper)', 'Test p', 'Test p (paper)']
BODY = [
    ['MSE', 'A -> I', '71.17 ± 1.26', '70.00 ± 1.00', '', ''],
    ['CIBA', 'A -> I', '75.17 ± 1.26', '72.00 ± 1.00', '0.018', '0.013'],
]


@pytest.fixture
def plan(tmp_path):
    plan = Plan(tmp_path, tmp_path / 'runs')
    for row in SMALL.rows:
        for seed, score in enumerate(OURS[row.config]):
            folder = plan.folder(Run(row.config, seed, row.size))
            folder.mkdir(parents=True)
            scores = {'test': {'accuracy/top1': score}, 'validation': {}}
            (folder / 'metrics.json').write_text(json.dumps(scores))
    return plan


def test_our_scores_stand_beside_the_papers(plan):
    scores = read_scores(SMALL, plan, range(3))
    assert scores == {MSE: [list(OURS['base'])], CIBA: [list(OURS['better'])]}
    assert tabulate_scores(SMALL, scores) == (HEADER, BODY)


def test_p_values_are_scipys():
    # Five scores with a deviation of 1, as the paper's of MSE, and CIBA's two above them.
    five = [0.0, 0.0, 0.0, 0.0, 5**0.5]
    others = [value + 2 for value in five]
    assert BODY[1][5] == f'{ttest_ind(five, others, equal_var=False).pvalue:.3f}'
    expected = ttest_ind(OURS['better'], OURS['base'], equal_var=False).pvalue
    assert compare_scores(OURS['better'], OURS['base']) == pytest.approx(expected)
    assert BODY[1][4] == f'{expected:.3f}'
    assert format_p_value(0.00099) == '< 0.001'
    assert format_p_value(0.001) == '0.001'
    # Nothing varies: the test is undefined.
    assert format_p_value(compare_scores([1.0, 1.0], [2.0, 2.0])) == '-'


def test_one_seed_has_neither_deviation_nor_p_value(plan):
    _, body = tabulate_scores(SMALL, read_scores(SMALL, plan, [0]))
    assert body[1] == ['CIBA', 'A -> I', '75.00', '72.00 ± 1.00', '-', BODY[1][5]]
    assert (count_seeds([0]), count_seeds([0, 4])) == ('1 seed', '2 seeds')


def test_all_three_files_have_the_cells(tmp_path):
    stem = tmp_path / 'out' / 'table'
    title = 'A table & its title; 3 seeds. ' + 'A note that is wider than the table. ' * 5
    long = 'a_name_of_more_than_fifty_characters_which_no_file_shortens'
    body = [*BODY, [long, '[bold]', '<b>', '', '', '']]
    shown = write_cells(title, HEADER, body, stem)
    assert pd.read_csv(f'{stem}.csv', dtype=str, keep_default_na=False).values.tolist() == body
    page = (tmp_path / 'out' / 'table.html').read_text(encoding='utf-8')
    assert html.escape(title) in page
    assert html.escape(long) in page
    assert '&lt;b&gt;' in page
    text = (tmp_path / 'out' / 'table.txt').read_text(encoding='utf-8')
    assert text.startswith(title.rstrip())
    rows = [line.split('  ') for line in text.splitlines()[-3:]]
    assert [[cell.strip() for cell in row if cell.strip()] for row in rows] == [
        [cell for cell in row if cell] for row in body
    ]
    assert not any(line.endswith(' ') for line in text.splitlines())
    # The terminal shows the same.
    console = Console(width=240, color_system=None)
    with console.capture() as printed:
        console.print(shown)
    assert [line.rstrip() for line in printed.get().rstrip().splitlines()] == text.splitlines()


def test_says_which_run_or_metric_is_missing(plan):
    with pytest.raises(CibaError, match=r'base_seed3.metrics\.json is missing'):
        read_scores(SMALL, plan, range(4))
    other = PaperTable('A table', ('F1-micro',), (MSE,))
    with pytest.raises(CibaError, match=r'has no f1/micro; it has accuracy/top1'):
        read_scores(other, plan, [0])
