"""The data files of the paper's tables, against the paper and against the configs."""

import re
from pathlib import Path

import pytest

from ciba_bev.reproduction.paper_tables import TABLES, Reported

PROJECT = Path(__file__).resolve().parents[2]
PAPER = PROJECT.parent / 'shared' / 'paper' / 'ciba.txt'
ROWS = [(name, row) for name, table in TABLES.items() for row in table.rows]
# A row of each table, transcribed.
PRINTED_ROWS = {
    ('table1a', 'CLIP + CIBA (64)', 'A -> I'): ((83.80, 0.39), (80.77, 1.04)),
    ('table1b', '+CIBA w/ VQ-VAE (32)', 'F -> T'): ((58.48, 0.18), (46.44, 0.33)),
    ('table2', 'MSE + CIBA (4)', 'L -> I'): ((44.8, None),),
    ('table2', 'Obj-DGCNN', 'L'): ((66.7, None),),
    ('table3', 'MSE + CIBA (16)', 'A50 -> V18'): ((43.44, 0.33), (42.95, 0.19)),
    ('table7', 'MSE + CIBA (2)', 'I -> A'): ((77.00, 1.48), (76.19, 3.03)),
}
# What rows of CIBA are compared with, transcribed. That the paper's p-values follow from such pairs
# is tested where they are computed.
COMPARED_WITH = {
    ('table1a', 'MSE + CIBA (8)', 'A -> I'): ((80.91, 0.68), (78.42, 0.69)),
    ('table1b', '+CIBA w/ DVIB (16)', 'I -> T'): ((56.74, 0.22), (42.18, 0.48)),
    ('table3', 'MSE + CIBA (16)', 'V18 -> A18'): ((67.54, 0.76), (68.32, 0.49)),
    ('table7', 'MSE + CIBA (2)', 'I -> A'): ((71.92, 1.35), (67.61, 1.82)),
}


def find(name, method, modality):
    (row,) = (r for r in TABLES[name].rows if (r.method, r.modality) == (method, modality))
    return row


@pytest.mark.parametrize('key', PRINTED_ROWS, ids=lambda key: f'{key[0]}, {key[1]}, {key[2]}')
def test_rows_are_the_papers(key):
    assert find(*key).paper == PRINTED_ROWS[key]


def test_every_row_is_read():
    counts = {name: len(table.rows) for name, table in TABLES.items()}
    assert counts == dict(table1a=10, table1b=11, table2=11, table3=12, table7=9)
    assert TABLES['table1a'].columns == TABLES['table3'].columns == ('Val.', 'Test')
    assert TABLES['table1b'].columns == ('F1-micro', 'F1-macro')


@pytest.mark.parametrize(('name', 'row'), ROWS, ids=lambda value: getattr(value, 'config', value))
def test_every_row_has_a_config(name, row):
    assert (PROJECT / 'configs' / f'{row.config}.py').is_file()
    size = re.search(r'CIBA.*\((\d+)\)', row.method)
    if name == 'table2':
        # Each size has a config of its own.
        assert row.size is None
        assert size is None or row.config.endswith(f'_h{size[1]}')
    else:
        assert row.size == (int(size[1]) if size else None)
    if 'CIBA' in row.method and name != 'table2':
        assert (row.compared_with.modality, row.compared_with.size) == (row.modality, None)
        assert row.method.startswith((row.compared_with.method, '+CIBA'))
        assert 'ciba' in row.config
    else:
        assert row.compared_with is None


@pytest.mark.skipif(not PAPER.is_file(), reason='the text of the paper is not here')
@pytest.mark.parametrize(('name', 'row'), ROWS, ids=lambda value: getattr(value, 'config', value))
def test_every_number_is_in_the_paper(name, row):
    text = PAPER.read_text(encoding='utf-8')
    # Without the markup between a mean and its deviation, which come as 83.74 <sub>0.98</sub>.
    text = re.sub(r'</?sub>|[{}$_\\|&]|begin|end|array|cc|rc', ' ', text)
    for reported in row.paper:
        assert isinstance(reported, Reported)
        mean = f'{reported.mean:.{1 if reported.deviation is None else 2}f}'
        printed = mean if reported.deviation is None else rf'{mean}\s+{reported.deviation:.2f}'
        assert re.search(rf'\s{printed}\s', text), (name, row.method, printed)


@pytest.mark.parametrize('key', COMPARED_WITH, ids=lambda key: f'{key[0]}, {key[1]}, {key[2]}')
def test_rows_are_compared_with_the_same_distillation_without_ciba(key):
    assert find(*key).compared_with.paper == COMPARED_WITH[key]
