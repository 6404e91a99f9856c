import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
TOY_FOLDER = PROJECT / 'tests' / 'engine'
# Both divide the same sums in another order.
TOLERANCE = 1e-5


def run(arguments, folder, **variables):
    """Run a tool from another folder, as its user would, on the CPU."""
    environment = {**os.environ, 'CUDA_VISIBLE_DEVICES': '', **variables}
    environment['PATH'] = f'{Path(sys.executable).parent}{os.pathsep}{environment["PATH"]}'
    environment['VIRTUAL_ENV'] = str(Path(sys.executable).parents[1])
    paths = [str(TOY_FOLDER), environment.get('PYTHONPATH', '')]
    environment['PYTHONPATH'] = os.pathsep.join(filter(None, paths))
    return subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def toy_config(tmp_path):
    # Only here: the module registers components, which the tool's own process does for itself.
    source = (TOY_FOLDER / 'toy_training.py').read_text()
    template = re.search(r'CONFIG = """(.*?)"""', source, re.DOTALL).group(1)
    path = tmp_path / 'toy.py'
    path.write_text(template.format(width=4, batch_size=2, epochs=2))
    return path


def losses(work_dir):
    [log] = Path(work_dir).glob('*/vis_data/scalars.json')
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return [entry['loss'] for entry in entries if 'loss' in entry]


@pytest.mark.slow
def test_two_processes_train_and_score_like_one(toy_config):
    folder = toy_config.parent
    alone = run(
        [sys.executable, PROJECT / 'tools/train.py', 'toy.py', '--work-dir', 'alone'], folder
    )
    assert alone.returncode == 0, alone.stderr
    halved = ['--cfg-options', 'train_dataloader.batch_size=1']
    together = run(
        ['bash', PROJECT / 'tools/dist_train.sh', 'toy.py', '2', '--work-dir', 'together', *halved],
        folder,
    )
    assert together.returncode == 0, together.stderr
    assert len(losses(folder / 'alone')) == 8
    assert losses(folder / 'together') == pytest.approx(losses(folder / 'alone'), rel=TOLERANCE)

    scores = []
    for processes in ('1', '2'):
        command = ['bash', PROJECT / 'tools/dist_test.sh', 'toy.py', 'alone/epoch_2.pth', processes]
        scored = run([*command, '--out', f'{processes}.json'], folder)
        assert scored.returncode == 0, scored.stderr
        scores.append(json.loads((folder / f'{processes}.json').read_text())['toy/error'])
    assert scores[0] == pytest.approx(scores[1], rel=TOLERANCE)


def test_a_missing_config_is_one_line(tmp_path):
    ended = run([sys.executable, PROJECT / 'tools/train.py', 'nothing.py'], tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith('error: nothing.py: there is no such config file')
    assert 'Traceback' not in ended.stderr
