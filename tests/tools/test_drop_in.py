"""The package inside someone else's mmdetection3d: by that checkout's own tools."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess
from typing import Callable, Sequence

import mmdet3d
import pytest
import torch

PROJECT = Path(__file__).resolve().parents[2]
MMDET3D_TOOLS = Path(mmdet3d.__file__).parent / '.mim' / 'tools'
CONFIG = """
_base_ = ['{configs}/quickstart_object_dgcnn.py']
custom_imports = dict(_delete_=True, imports=['{package}'], allow_failed_imports=False)
data_root = '{data_root}/'
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(data_root=data_root, ann_file=data_root + 'nuscenes_infos_val.pkl')
test_evaluator = val_evaluator
default_hooks = dict(logger=dict(interval=1))
custom_hooks = [
    dict(type='ciba_bev.CheckDataHook'),
    dict(type='ciba_bev.SafeCheckpointHook'),
]
train_cfg = dict(max_epochs=1, val_begin=2)
"""

pytestmark = pytest.mark.skipif(
    not MMDET3D_TOOLS.is_dir(), reason='this mmdet3d was installed without its tools'
)


@pytest.fixture
def checkout(tmp_path):
    """A folder laid out as an mmdetection3d checkout, with the package copied into projects/.

    A second ``ciba_bev`` that refuses to be imported stands where the installed one would be found.
    """
    root = tmp_path / 'mmdetection3d'
    shutil.copytree(MMDET3D_TOOLS, root / 'tools')
    ignored = shutil.ignore_patterns('__pycache__')
    shutil.copytree(
        PROJECT / 'projects' / 'ciba_bev', root / 'projects' / 'ciba_bev', ignore=ignored
    )
    (root / 'ciba_bev.py').write_text("raise ImportError('the installed package was asked for')\n")
    return root


# Has imported mmdet3d, and runs each script in a copy of itself: the imports take many seconds.
SERVER = """
import json, multiprocessing, os, runpy, sys
import mmdet3d.apis, mmdet3d.datasets, mmdet3d.evaluation, mmdet3d.models, mmdet3d.visualization
import torch._dynamo

def run(folder, paths, words):
    for descriptor, name in ((1, 'stdout'), (2, 'stderr')):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.chdir(folder)
    sys.path[:0], sys.argv = paths, words
    runpy.run_path(words[0], run_name='__main__')

context = multiprocessing.get_context('fork')
for line in sys.stdin:
    job = context.Process(target=run, args=json.loads(line))
    job.start()
    job.join()
    print(job.exitcode, flush=True)
"""
ENVIRONMENT = {**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A function that runs a script beside mmdet3d, on the CPU, in a folder of its own.

    The first of ``paths`` is the first place that it imports from.
    """
    outputs = tmp_path_factory.mktemp('outputs')
    server = subprocess.Popen(
        [sys.executable, '-c', SERVER],
        cwd=outputs,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def run(words: list, folder: Path, paths: Sequence[Path] = ()) -> CompletedProcess[str]:
        job = (str(folder), [*map(str, paths)], [*map(str, words)])
        server.stdin.write(json.dumps(job) + '\n')
        server.stdin.flush()
        status = int(server.stdout.readline())
        printed = [(outputs / name).read_text() for name in ('stdout', 'stderr')]
        return CompletedProcess(words, status, *printed)

    with server:
        yield run


def train_and_score(run: Callable, tools: Path, folder: Path, paths: list[Path]) -> list[float]:
    """One epoch by mmdet3d's own tools/train.py, scored by its tools/test.py; the losses."""
    ended = run([tools / 'train.py', 'config.py', '--work-dir', 'run'], folder, paths)
    assert ended.returncode == 0, ended.stderr[-3000:]
    ended = run(
        [tools / 'test.py', 'config.py', 'run/epoch_1.pth', '--work-dir', 'run'], folder, paths
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert 'NDS' in ended.stdout
    (log,) = (
        log for log in (folder / 'run').glob('*/vis_data/scalars.json') if 'loss' in log.read_text()
    )
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return [entry['loss'] for entry in entries if 'loss' in entry]


@pytest.mark.slow
def test_installed_and_copied_train_alike(run, simulated_nuscenes, checkout, tmp_path):
    losses = {}
    for package, paths in (('ciba_bev', []), ('projects.ciba_bev', [checkout])):
        folder = tmp_path / package
        folder.mkdir()
        text = CONFIG.format(
            configs=PROJECT / 'configs', package=package, data_root=simulated_nuscenes
        )
        (folder / 'config.py').write_text(text)
        tools = checkout / 'tools' if paths else MMDET3D_TOOLS
        losses[package] = train_and_score(run, tools, folder, paths)
    assert len(losses['ciba_bev']) == 4
    assert losses['ciba_bev'] == losses['projects.ciba_bev']


# mmengine always picks a GPU for each of several processes; without one this alone is left out.
ON_CPU = """
import torch
torch.cuda.set_device = lambda device: None
"""


@pytest.mark.slow
def test_the_checkouts_own_dist_train_trains_the_copy(simulated_nuscenes, checkout, tmp_path):
    """Two processes, joined by gloo, each on its half of the samples."""
    text = CONFIG.format(
        configs=PROJECT / 'configs', package='projects.ciba_bev', data_root=simulated_nuscenes
    )
    text += "env_cfg = dict(dist_cfg=dict(backend='gloo'))\n"
    text += "model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None)\n"
    (tmp_path / 'config.py').write_text(text)
    (checkout / 'sitecustomize.py').write_text(ON_CPU)
    with socket.socket() as free:
        free.bind(('', 0))
        port = free.getsockname()[1]
    environment = {
        **ENVIRONMENT,
        'PORT': str(port),
        'PATH': os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']]),
    }
    command = ['bash', checkout / 'tools' / 'dist_train.sh', 'config.py', '2', '--work-dir', 'run']
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]
    weights = torch.load(tmp_path / 'run' / 'epoch_1.pth', weights_only=False)
    # Seven frames, two to a batch: four steps of one process, two of two.
    assert weights['message_hub']['runtime_info']['iter'] == 1
    assert all(value.isfinite().all() for value in weights['state_dict'].values())


def test_importing_prints_nothing_and_patches_nothing(run, tmp_path):
    """Nothing but its own modules and scopes is there afterwards that was not there before.

    And what it takes is small beside mmdet3d's own import.
    """
    script = """
import time
import mmdet3d.apis, mmdet3d.models, mmdet3d.datasets, mmdet3d.evaluation, torch, warnings
from mmengine.registry import MODELS, DATASETS, TRANSFORMS, TASK_UTILS, METRICS, HOOKS
def state():
    found = {}
    for module in (torch, torch.nn, torch.nn.functional, mmdet3d, mmdet3d.models.detectors.base):
        found.update({(module.__name__, key): id(value) for key, value in vars(module).items()})
    for registry in (MODELS, DATASETS, TRANSFORMS, TASK_UTILS, METRICS, HOOKS):
        for scope in ('mmengine', 'mmdet', 'mmdet3d'):
            child = registry if scope == 'mmengine' else registry.children.get(scope)
            for key, value in getattr(child, 'module_dict', {}).items():
                found[registry.name, scope, key] = id(value)
    return found
before = state()
warnings.simplefilter('error')
start = time.process_time()
import ciba_bev
seconds = time.process_time() - start
assert seconds < 1, f'{seconds} s'
after = state()
changed = [key for key in after if before.get(key) != after[key]]
assert not changed, changed
"""
    (tmp_path / 'script.py').write_text(script)
    ended = run(['script.py'], tmp_path)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout == ''


def test_names_that_a_repository_has_registered_already_stay_its_own(run, tmp_path):
    """Before and after this package's import; a config's scope or prefix says which is meant."""
    script = """
import mmengine.registry as root
from mmdet3d.registry import MODELS, TASK_UTILS
def register(registry, name):
    registry.register_module(name=name, module=type(name, (), {}))
register(MODELS, 'BEVFormer')
register(TASK_UTILS, 'HungarianAssigner3D')
register(TASK_UTILS, 'HungarianMatcher3D')
import ciba_bev
register(MODELS, 'ObjectDGCNN')
for registry, name in ((root.MODELS, 'BEVFormer'), (root.MODELS, 'ObjectDGCNN'),
                       (root.TASK_UTILS, 'HungarianMatcher3D')):
    theirs, ours = registry.get(f'mmdet3d.{name}'), registry.get(f'ciba_bev.{name}')
    assert theirs.__module__ == '__main__', theirs
    assert ours.__module__.startswith('ciba_bev.'), ours
    for scope, expected in (('mmdet3d', theirs), ('ciba_bev', ours)):
        with registry.switch_scope_and_registry(scope) as scoped:
            assert scoped.get(name) is expected, (scope, name)
assert root.TASK_UTILS.get('mmdet3d.HungarianAssigner3D').__module__ == '__main__'
"""
    (tmp_path / 'script.py').write_text(script)
    ended = run(['script.py'], tmp_path)
    assert ended.returncode == 0, ended.stderr[-3000:]


def test_two_copies_at_once_are_refused(checkout, tmp_path):
    (checkout / 'ciba_bev.py').unlink()
    command = [sys.executable, '-c', 'import ciba_bev, projects.ciba_bev']
    environment = {**ENVIRONMENT, 'PYTHONPATH': str(checkout)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "either the installed 'ciba_bev' or the one in a checkout" in ended.stderr
