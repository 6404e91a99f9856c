import json

import pytest
from rich.console import Console

from ciba_bev.errors import CibaError
from ciba_bev.runner import quickstart
from ciba_bev.runner.quickstart import (
    Quickstart,
    find_metric,
    format_markdown,
    make_table,
    run_quickstart,
    summarise_progress,
)

CONFIG = "data_root = 'data/world'\ntrain_cfg = dict(max_epochs=3)\n"
# Each tool notes that it ran and writes what the real one would.
TOOL = """
import json, pathlib, sys
with open('calls.txt', 'a') as calls:
    calls.write(sys.argv[0] + '\\n')
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
argument('--work-dir').mkdir(exist_ok=True)
if (argument('--work-dir') / 'epoch_3.pth').exists():
    sys.exit('resumed a complete training')
(argument('--work-dir') / 'epoch_1.pth').touch()
(argument('--work-dir') / 'epoch_3.pth').touch()
""",
    'test': """
names = ['NDS', 'mAP', 'mATE', 'mASE', 'mAOE', 'mAVE', 'mAAE']
argument('--out').write_text(json.dumps({f'metric/{n}': i / 10 for i, n in enumerate(names)}))
""",
}


@pytest.fixture
def project(tmp_path):
    """A project folder whose tools only pretend."""
    for folder in ('configs', 'tools'):
        (tmp_path / folder).mkdir()
    for config in quickstart.MODELS.values():
        (tmp_path / config).write_text(CONFIG)
    for name, body in TOOLS.items():
        (tmp_path / 'tools' / f'{name}.py').write_text(TOOL + body)
    return tmp_path


def calls(project):
    return [line[6:-3] for line in (project / 'calls.txt').read_text().split()]


def test_runs_every_step_once_and_writes_results(project):
    work_dir = project / 'work_dirs'
    run_quickstart(project, work_dir, fresh=False)
    assert calls(project) == ['simulate_nuscenes', 'create_data', 'train', 'test', 'train', 'test']
    results = json.loads((work_dir / 'results.json').read_text())
    assert results['student']['mAP'] == 0.1
    assert '| teacher | 0.000 | 0.100 |' in (work_dir / 'results.md').read_text()

    run_quickstart(project, work_dir, fresh=False)
    assert len(calls(project)) == 6

    run_quickstart(project, work_dir, fresh=True)
    assert len(calls(project)) == 12


def test_goes_on_after_a_failed_step(project):
    tool = project / 'tools' / 'test.py'
    good = tool.read_text()
    tool.write_text(TOOL + "sys.exit('the disk is full')")
    with pytest.raises(CibaError, match=r'Score the teacher(.|\n)*the disk is full'):
        run_quickstart(project, project / 'work_dirs', fresh=False)
    tool.write_text(good)
    run_quickstart(project, project / 'work_dirs', fresh=False)
    assert calls(project).count('simulate_nuscenes') == 1
    assert calls(project).count('train') == 2


def test_repeats_what_a_changed_config_concerns(project):
    run_quickstart(project, project / 'work_dirs', fresh=False)
    (project / quickstart.MODELS['student']).write_text(CONFIG + 'lr = 1\n')
    again = Quickstart(project, project / 'work_dirs', Console())
    incomplete = [step.name for step in again.steps if not again.is_complete(step)]
    assert incomplete == ['train_student', 'score_student']
    # The tool that pretends to train fails if it finds the old config's checkpoint.
    again.run()
    assert calls(project).count('train') == 3


def test_an_interrupted_training_keeps_its_folder_and_a_simulation_does_not(project):
    train, simulate = (project / 'tools' / f'{n}.py' for n in ('train', 'simulate_nuscenes'))
    good = {tool: tool.read_text() for tool in (train, simulate)}
    simulate.write_text(
        good[simulate].replace("(folder / 'sample", "sys.exit(1)\n(folder / 'sample")
    )
    train.write_text(good[train].replace("(argument('--work-dir') / 'epoch_3.pth').touch()", ''))
    for _ in range(2):
        with pytest.raises(CibaError, match='ended with status 1'):
            run_quickstart(project, project / 'work_dirs', fresh=False)
    simulate.write_text(good[simulate])
    with pytest.raises(CibaError, match=r'did not write .*epoch_3\.pth'):
        run_quickstart(project, project / 'work_dirs', fresh=False)
    kept = project / 'work_dirs' / 'teacher' / 'epoch_1.pth'
    modified = kept.stat().st_ino
    train.write_text(good[train])
    run_quickstart(project, project / 'work_dirs', fresh=False)
    assert kept.stat().st_ino == modified


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


def test_tables_have_one_column_a_metric():
    result = dict.fromkeys(quickstart.METRICS, 0.25)
    result.update(training_minutes=2, peak_memory_gb=1)
    rows = make_table({'teacher': result})
    assert [len(row) for row in rows] == [10, 10]
    assert format_markdown(rows).splitlines()[1] == '|' + '---|' * 10
