import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from rich.console import Console

from ciba_bev.errors import CibaError
from ciba_bev.quickstart import steps as quickstart
from ciba_bev.quickstart.report import ReportRow
from ciba_bev.quickstart.steps import (
    Quickstart,
    find_metric,
    format_markdown,
    make_table,
    run_quickstart,
    shorten_table,
    summarise_progress,
)

CONFIG = "data_root = 'data/world'\ntrain_cfg = dict(max_epochs=12)\n"
# Each tool notes that it ran and writes what the real one would.
TOOL = """
import json, pathlib, sys
with open('calls.txt', 'a') as calls:
    calls.write(' '.join(sys.argv) + '\\n')
def argument(name):
    return pathlib.Path(sys.argv[sys.argv.index(name) + 1])
"""
TOOLS = {
    'simulate_nuscenes': """
folder = argument('--out') / 'v1.0-mini'
folder.mkdir(parents=True)
(folder / 'sample.json').write_text('[]')
""",
    'create_data': """
for split in ('train', 'val'):
    (argument('--root-path') / f'nuscenes_infos_{split}.pkl').write_text('')
""",
    'train': """
folder = argument('--work-dir')
folder.mkdir(exist_ok=True)
if (folder / 'epoch_12.pth').exists():
    sys.exit('resumed a complete training')
last = 4 if 'train_cfg.max_epochs=4' in sys.argv else 12
for epoch in (1, last):
    (folder / f'epoch_{epoch}.pth').touch()
(folder / 'last_checkpoint').write_text('')
spectrum = [2.0, 1.0]
(folder / 'bottlenecks.json').write_text(json.dumps({
    'metrics': {'teacher/effective_rank': 3.0}, 'feature_spectra': {}, 'decoded_spectra': {},
    'largest_gains': None, 'threshold': None}))
""",
    'test': """
names = ['NDS', 'mAP', 'mATE', 'mASE', 'mAOE', 'mAVE', 'mAAE']
argument('--out').write_text(json.dumps({f'metric/{n}': i / 10 for i, n in enumerate(names)}))
""",
    'analyze_collapse': """
argument('--out').mkdir()
labels = [sys.argv[i + 1] for i, word in enumerate(sys.argv) if word == '--model']
models = [{'label': label, 'effective_rank': 2.5, 'singular_values': [2.0, 1.0]}
          for label in labels]
(argument('--out') / 'collapse.json').write_text(json.dumps({'models': models}))
""",
}
STEPS = [
    'simulate',
    'convert',
    'train_student',
    'train_teacher',
    'train_bottleneck',
    'train_ciba',
    'train_mse',
    'score_mse',
    'score_ciba',
    'score_student',
    'score_teacher',
    'analyze',
]


def write_project(root):
    for folder in ('configs', 'tools'):
        (root / folder).mkdir()
    for config in (*(model.config for model in quickstart.MODELS), quickstart.BOTTLENECK):
        (root / config).write_text(CONFIG)
    for name, body in TOOLS.items():
        (root / 'tools' / f'{name}.py').write_text(TOOL + body)
    return root


@pytest.fixture
def project(tmp_path):
    """A project folder whose tools only pretend."""
    return write_project(tmp_path)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A project whose steps have all run, and what was printed."""
    root = write_project(tmp_path_factory.mktemp('finished'))
    with redirect_stdout(io.StringIO()) as printed:
        run_quickstart(root, root / 'work_dirs', fresh=False)
    return root, printed.getvalue()


def calls(project):
    return (project / 'calls.txt').read_text().splitlines()


def count(project, tool):
    return sum(line.startswith(f'tools/{tool}.py') for line in calls(project))


def test_runs_every_step_once_and_writes_results(project):
    work_dir = project / 'work_dirs'
    run_quickstart(project, work_dir, fresh=False)
    assert len(calls(project)) == len(STEPS)
    assert count(project, 'train') == 5
    assert count(project, 'test') == 4
    assert '| student (cameras) | 0.000 | 0.100 |' in (work_dir / 'results.md').read_text()
    assert (work_dir / 'report.html').is_file()

    run_quickstart(project, work_dir, fresh=False)
    assert len(calls(project)) == len(STEPS)

    run_quickstart(project, work_dir, fresh=True)
    assert len(calls(project)) == 2 * len(STEPS)


def test_distilled_students_are_scored_as_plain_ones(finished):
    project, _ = finished
    scored = [line.split()[1] for line in calls(project) if line.startswith('tools/test.py')]
    assert scored.count('configs/quickstart_bevformer.py') == 3


def test_steps_are_in_an_order_that_can_be_run(project):
    steps = Quickstart(project, project / 'work_dirs', Console()).runner.steps
    assert [step.name for step in steps] == STEPS
    for index, step in enumerate(steps):
        assert {other.name for other in steps[:index]}.issuperset(step.after), step.name


def test_repeats_what_a_changed_config_concerns(project):
    run_quickstart(project, project / 'work_dirs', fresh=False)
    (project / quickstart.BOTTLENECK).write_text(CONFIG + 'lr = 1\n')
    again = Quickstart(project, project / 'work_dirs', Console()).runner
    incomplete = [step.name for step in again.steps if not again.is_complete(step)]
    assert incomplete == ['train_bottleneck', 'train_ciba', 'score_ciba', 'analyze']


def test_data_it_did_not_make_are_not_removed(project):
    mine = project / 'data' / 'world' / 'mine.txt'
    mine.parent.mkdir(parents=True)
    mine.touch()
    run_quickstart(project, project / 'work_dirs', fresh=True)
    assert mine.exists()


def test_summarises_the_log_of_mmengine():
    line = (
        '11/23 17:16:09 - mmengine - INFO - Epoch(train) [3][ 50/100]  lr: 1.0e-01  '
        'eta: 0:01:10  time: 0.0033  data_time: 0.0011  loss: 1.0296  loss_cls: 0.5'
    )
    assert summarise_progress(line) == 'training: epoch 3,  50/100, time left 0:01:10, loss 1.0296'
    line = '11/23 - mmengine - INFO - Epoch(test) [7/8]    eta: 0:00:02  time: 0.0009'
    assert summarise_progress(line) == 'scoring: 7/8, time left 0:00:02'
    assert summarise_progress('Saving checkpoint at 3 epochs') is None


def test_finds_a_metric_by_its_short_name():
    metrics = {'a/NDS': 0.5, 'a/car_AP': 0.1, 'b/mAP': 0.2}
    assert find_metric(metrics, 'mAP') == 0.2
    with pytest.raises(CibaError, match='mATE'):
        find_metric(metrics, 'mATE')


@pytest.fixture
def row():
    return ReportRow(
        key='ciba',
        title='student, CIBA (8)',
        config='configs/student.py',
        metrics={**dict.fromkeys(quickstart.METRICS, 0.25), 'mAVE': None},
        effective_rank=12.5,
        training_minutes=120,
        peak_memory_gb=11,
        paper_nds=43.4,
    )


def test_tables_have_one_column_a_number(row):
    rows = make_table([row])
    assert [len(cells) for cells in rows] == [12, 12]
    assert rows[1][8] == '12.5'
    assert format_markdown(rows).splitlines()[1] == '|' + '---|' * 12


def test_the_results_fit_into_80_columns(row):
    console = Console(width=80, file=io.StringIO())
    console.print(shorten_table(make_table([row])))
    lines = console.file.getvalue().splitlines()
    (line,) = (line for line in lines if 'CIBA' in line)
    assert re.split(r'\s{2,}', line.strip()) == [
        'student, CIBA (8)',
        '0.250',
        '0.250',
        '12.5',
        '120.0 min',
        '0.434',
    ]
    header = ' '.join(lines[: lines.index(line)])
    assert '…' not in header
    for word in ('model', 'NDS', 'mAP', 'effective', 'rank', 'training', 'paper'):
        assert word in header


def test_the_same_number_of_pictures_is_drawn_for_every_model(finished):
    project, _ = finished
    words = [line.split() for line in calls(project) if line.startswith('tools/test.py')]
    assert [line[line.index('--show-count') + 1] for line in words] == ['2'] * 4
    folders = {Path(line[line.index('--show-dir') + 1]).name for line in words}
    assert folders == {'teacher', 'student', 'mse', 'ciba'}


def test_the_spread_stands_beside_the_results(finished):
    project, printed = finished
    for text in (printed, (project / 'work_dirs' / 'results.md').read_text()):
        assert 'by up to 0.020 in NDS and 1.4 in effective rank' in ' '.join(text.split())
