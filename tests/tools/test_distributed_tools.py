import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tool_processes import run_tool

PROJECT = Path(__file__).resolve().parents[2]
TOY_FOLDER = PROJECT / 'tests' / 'engine'
# Both divide the same sums in another order.
TOLERANCE = 1e-5


def environment_of_tools(**variables):
    """That of a user on a machine without a GPU, the toy's components at hand."""
    environment = {**os.environ, 'CUDA_VISIBLE_DEVICES': '', **variables}
    environment['PATH'] = f'{Path(sys.executable).parent}{os.pathsep}{environment["PATH"]}'
    environment['VIRTUAL_ENV'] = str(Path(sys.executable).parents[1])
    paths = [str(TOY_FOLDER), environment.get('PYTHONPATH', '')]
    environment['PYTHONPATH'] = os.pathsep.join(filter(None, paths))
    return environment


def run(arguments, folder, **variables):
    """Run a tool from another folder, as its user would."""
    environment = environment_of_tools(**variables)
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
    words = ['toy.py', '--work-dir', 'alone']
    alone = run_tool(folder, 'train.py', *words, python_path=[TOY_FOLDER])
    assert alone.returncode == 0, alone.stdout
    halved = ['--cfg-options', 'train_dataloader.batch_size=1']
    together = run(
        ['bash', PROJECT / 'tools/dist_train.sh', 'toy.py', '2', '--work-dir', 'together', *halved],
        folder,
    )
    assert together.returncode == 0, together.stderr
    assert len(losses(folder / 'alone')) == 8
    assert losses(folder / 'together') == pytest.approx(losses(folder / 'alone'), rel=TOLERANCE)

    words = ['toy.py', 'alone/epoch_2.pth', '--out', '1.json']
    scored = run_tool(folder, 'test.py', *words, python_path=[TOY_FOLDER])
    assert scored.returncode == 0, scored.stdout
    words[-1] = '2.json'
    scored = run_tool(folder, 'test.py', *words, processes=2, python_path=[TOY_FOLDER])
    assert scored.returncode == 0, scored.stdout
    scores = [json.loads((folder / f'{n}.json').read_text())['toy/error'] for n in (1, 2)]
    assert scores[0] == pytest.approx(scores[1], rel=TOLERANCE)


def test_dist_test_starts_test_as_dist_train_starts_train(tmp_path):
    """With a Python that prints its arguments."""
    python = tmp_path / 'bin' / 'python'
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    environment = {**os.environ, 'CIBA_VENV': str(tmp_path), 'PORT': '1'}
    for name in ('VIRTUAL_ENV', 'CONDA_PREFIX'):
        environment.pop(name, None)
    printed = []
    for script, words in (('train', ['a b.py', '2']), ('test', ['a b.py', 'weights.pth', '2'])):
        command = ['bash', PROJECT / 'tools' / f'dist_{script}.sh', *words, '--out', 'a b.json']
        printed.append(subprocess.check_output(command, env=environment, text=True).splitlines())
    place = printed[0].index(str(PROJECT / 'tools' / 'train.py'))
    assert printed[0][place + 1 :] == ['a b.py', '--out', 'a b.json', '--launcher', 'pytorch']
    assert printed[1] == [
        *printed[0][:place],
        str(PROJECT / 'tools' / 'test.py'),
        'a b.py',
        'weights.pth',
        *printed[0][place + 2 :],
    ]


def test_a_missing_config_is_one_line(tmp_path):
    ended = run([sys.executable, PROJECT / 'tools/train.py', 'nothing.py'], tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith('error: nothing.py: there is no such config file')
    assert 'Traceback' not in ended.stderr


BAD_DATA = """
import time
import torch
import toy_training
from ciba_bev.registry import DATASETS, MODELS

@DATASETS.register_module()
class BadToyDataset(toy_training.ToyDataset):
    def __init__(self, bad=-1, seconds=0):
        self.bad, self.seconds = bad, seconds

    def __getitem__(self, index):
        item = super().__getitem__(index)
        if index == self.bad:
            item['target'][0] = torch.inf
        time.sleep(self.seconds)
        return {**item, 'names': f'frame-{index}'}

@MODELS.register_module()
class UnnamedToyModel(toy_training.ToyModel):
    def forward(self, inputs, target, names, mode):
        return super().forward(inputs, target, mode)
"""
BAD_CONFIG = """
_base_ = ['toy.py']
custom_imports = dict(imports=['ciba_bev', 'toy_training', 'bad_data'])
model = dict(type='UnnamedToyModel')
train_dataloader = dict(batch_size=1, dataset=dict(type='BadToyDataset'))
"""


@pytest.fixture
def bad_config(toy_config):
    folder = toy_config.parent
    (folder / 'bad_data.py').write_text(BAD_DATA)
    (folder / 'bad.py').write_text(BAD_CONFIG)
    return folder / 'bad.py'


def train_on_two(work_dir, *options):
    script = str(PROJECT / 'tools/dist_train.sh')
    return ['bash', script, 'bad.py', '2', '--work-dir', work_dir, '--cfg-options', *options]


def train_again(folder, work_dir, *words):
    words = ['bad.py', '--work-dir', work_dir, *words]
    return run_tool(folder, 'train.py', *words, processes=2, python_path=[folder, TOY_FOLDER])


@pytest.mark.slow
def test_a_frame_of_one_process_ends_both_and_its_name_stands_last(bad_config):
    folder = bad_config.parent
    paths = f'{folder}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'
    command = train_on_two('bad', 'train_dataloader.dataset.bad=5')
    ended = run(command, folder, PYTHONPATH=paths)
    assert ended.returncode == 1
    last = ended.stderr.rstrip().splitlines()[-1]
    assert re.match(
        r'error: epoch 1, step \d: loss holds NaN or infinity, for samples frame-5\.', last
    )
    assert 'Traceback' not in ended.stderr
    assert ended.stderr.count('NaN or infinity') == 1
    assert not list(folder.glob('bad/*.pth'))

    # The same for what only the first process can say, before the others have joined it.
    (folder / 'bad' / 'epoch_1.pth').touch()
    ended = train_again(folder, 'bad')
    assert ended.returncode == 1
    told = [line for line in ended.stdout.splitlines() if 'error' in line.lower()]
    assert len(told) == 1, ended.stdout
    assert told[0].startswith('error: bad holds checkpoints of an earlier training (epoch_1.pth)')


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs Linux')
def test_processes_of_a_killed_launcher_end_and_free_the_work_folder(bad_config):
    folder = bad_config.parent
    paths = f'{folder}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'
    options = ['train_dataloader.num_workers=1', 'train_dataloader.dataset.seconds=0.5']
    command = train_on_two('killed', *options, 'train_cfg.max_epochs=99')
    with (folder / 'output').open('w') as output:
        launcher = subprocess.Popen(
            command,
            cwd=folder,
            env=environment_of_tools(PYTHONPATH=paths),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 120
        while not list(folder.glob('killed/epoch_*.pth')):
            assert launcher.poll() is None, (folder / 'output').read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        # While it runs, nobody else begins there.
        other = train_again(folder, 'killed')
        assert re.search(
            r'error: killed is in use by another training: process \d+ on .*, started ',
            other.stdout.rstrip().splitlines()[-1],
        )
        started = psutil.Process(launcher.pid).children(recursive=True)
        assert len(started) >= 4, 'two trainings with a loading process each'
    finally:
        launcher.kill()
        launcher.wait()
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []
    resumed = train_again(folder, 'killed', '--resume', '--cfg-options', 'train_cfg.max_epochs=1')
    assert resumed.returncode == 0, resumed.stdout
    assert re.search(r'resumed epoch: \d+', resumed.stdout)
    assert not list((folder / 'killed').glob('.*.partial'))
