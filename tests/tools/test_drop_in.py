"""The package inside someone else's mmdetection3d: by that checkout's own tools."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

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


def run(arguments: list, folder: Path, path: Path | None = None) -> subprocess.CompletedProcess:
    """Run something with this Python on the CPU, with a folder to import from."""
    environment = {**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'}
    if path is not None:
        environment['PYTHONPATH'] = str(path)
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def train_and_score(tools: Path, folder: Path, path: Path | None) -> list[float]:
    """One epoch by mmdet3d's own tools/train.py, scored by its tools/test.py; the losses."""
    ended = run([tools / 'train.py', 'config.py', '--work-dir', 'run'], folder, path)
    assert ended.returncode == 0, ended.stderr[-3000:]
    ended = run(
        [tools / 'test.py', 'config.py', 'run/epoch_1.pth', '--work-dir', 'run'], folder, path
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert 'NDS' in ended.stdout
    (log,) = (
        log for log in (folder / 'run').glob('*/vis_data/scalars.json') if 'loss' in log.read_text()
    )
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return [entry['loss'] for entry in entries if 'loss' in entry]


@pytest.mark.slow
def test_installed_and_copied_train_alike(simulated_nuscenes, checkout, tmp_path):
    losses = {}
    for package, path in (('ciba_bev', None), ('projects.ciba_bev', checkout)):
        folder = tmp_path / package
        folder.mkdir()
        text = CONFIG.format(
            configs=PROJECT / 'configs', package=package, data_root=simulated_nuscenes
        )
        (folder / 'config.py').write_text(text)
        tools = checkout / 'tools' if path else MMDET3D_TOOLS
        losses[package] = train_and_score(tools, folder, path)
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
        **os.environ,
        'CUDA_VISIBLE_DEVICES': '',
        'OMP_NUM_THREADS': '1',
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


def test_importing_prints_nothing_and_patches_nothing(tmp_path):
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
    ended = run(['-c', script], tmp_path)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout == ''


def test_names_that_a_repository_has_registered_already_stay_its_own(tmp_path):
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
    ended = run(['-c', script], tmp_path)
    assert ended.returncode == 0, ended.stderr[-3000:]


def test_two_copies_at_once_are_refused(checkout, tmp_path):
    (checkout / 'ciba_bev.py').unlink()
    script = 'import ciba_bev, projects.ciba_bev'
    ended = run(['-c', script], tmp_path, checkout)
    assert ended.returncode == 1
    assert "either the installed 'ciba_bev' or the one in a checkout" in ended.stderr
