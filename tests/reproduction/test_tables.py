"""Tables: the paper's p-values from the paper's numbers, ours from ours."""

import csv
import json

import pytest
from scipy.stats import ttest_ind

from ciba_bev.errors import CibaError
from ciba_bev.reproduction.paper_tables import TABLES, PaperTable, Row
from ciba_bev.reproduction.plan import Plan, Run
from ciba_bev.reproduction.tables import read_table, write_table

# As printed in Tables 4, 5 and 7, test scores, F1-macro for MM-IMDB. None: printed as < 0.001.
PRINTED = {
    ('table1a', 'MSE + CIBA (8)', 'A -> I'): 0.004,
    ('table1a', 'CE + CIBA (8)', 'A -> I'): 0.026,
    ('table1a', 'CLIP + CIBA (64)', 'A -> I'): 0.048,
    ('table1a', 'Margin + CIBA (128)', 'A -> I'): 0.044,
    ('table1b', '+CIBA w/ DVIB (16)', 'I -> T'): None,
    ('table1b', '+CIBA w/ DVIB (32)', 'F -> T'): 0.002,
    ('table1b', '+CIBA w/ SA (32)', 'F -> T'): 0.051,
    ('table7', 'MSE + CIBA (8)', 'F -> I'): 0.021,
    ('table7', 'MSE + CIBA (2)', 'I -> A'): 0.001,
}
OURS = {'base': (70.0, 71.0, 72.5), 'better': (75.0, 74.0, 76.5)}
SMALL = PaperTable(
    'A table',
    'toy',
    (('Test', 'test', 'accuracy/top1'),),
    (
        Row('MSE', 'A -> I', 'base', ((70.0, 1.0),)),
        Row('CIBA', 'A -> I', 'better', ((75.0, 1.0),), 8, ('MSE', 'A -> I')),
    ),
)


@pytest.fixture
def plan(tmp_path):
    plan = Plan(tmp_path, tmp_path / 'runs')
    for config, size in (('base', None), ('better', 8)):
        for seed, score in enumerate(OURS[config]):
            folder = plan.folder(Run(config, seed, size))
            folder.mkdir(parents=True)
            scores = {'test': {'accuracy/top1': score}, 'validation': {}}
            (folder / 'metrics.json').write_text(json.dumps(scores))
    return plan


@pytest.fixture
def all_runs(tmp_path):
    """A plan in which every row of every table has the same scores."""
    plan = Plan(tmp_path, tmp_path / 'runs')
    for table in TABLES.values():
        scores = {}
        for _, part, metric in table.columns:
            scores.setdefault(part, {})[metric] = 50.0
        for row in table.rows:
            folder = plan.folder(Run(row.config, 0, row.size))
            folder.mkdir(parents=True, exist_ok=True)
            (folder / 'metrics.json').write_text(json.dumps(scores))
    return plan


def test_the_papers_p_values_follow_from_its_means(all_runs):
    found = {}
    for name, table in TABLES.items():
        for row, scores in read_table(table, all_runs, [0]):
            found[name, row.method, row.modality] = scores[-1].paper_p_value
    for key, printed in PRINTED.items():
        if printed is None:
            assert found[key] < 0.001
        else:
            # Means and deviations are printed to two digits.
            assert found[key] == pytest.approx(printed, rel=0.05, abs=0.0006)


def test_our_p_value_is_scipys(plan):
    (_, (base,)), (_, (better,)) = read_table(SMALL, plan, range(3))
    assert base.p_value is None
    expected = ttest_ind(OURS['better'], OURS['base'], equal_var=False).pvalue
    assert better.p_value == pytest.approx(expected)
    assert better.ours == '75.17 ± 1.26'


def test_all_three_files_say_the_same(plan, tmp_path):
    rows = read_table(SMALL, plan, range(3))
    write_table(SMALL, rows, tmp_path / 'out' / 'table', 'A note.')
    with open(tmp_path / 'out' / 'table.csv', encoding='utf-8', newline='') as file:
        header, *body = csv.reader(file)
    assert header == ['Method', 'Modality', 'Test', 'Test (paper)', 'Test p', 'Test p (paper)']
    for ending in ('txt', 'html'):
        text = (tmp_path / 'out' / f'table.{ending}').read_text()
        assert 'A note.' in text
        for cell in (cell for row in body for cell in row if '>' not in cell and '<' not in cell):
            assert cell in text


def test_one_seed_has_no_p_value(plan, tmp_path):
    rows = read_table(SMALL, plan, [0])
    write_table(SMALL, rows, tmp_path / 'table', '')
    assert (tmp_path / 'table.csv').read_text().splitlines()[2].split(',')[4] == '-'


def test_says_which_run_is_missing(plan):
    with pytest.raises(CibaError, match=r'MSE, A -> I: there is no .*base_seed3'):
        read_table(SMALL, plan, range(4))
