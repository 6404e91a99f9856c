"""The detectors through the tools that users call, on a tiny simulated nuScenes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tool_processes import run_tool

PROJECT = Path(__file__).resolve().parents[2]
CONFIGS = PROJECT / 'configs'
# Both runs add the same numbers in another order, and train on with what comes out.
LOSS_TOLERANCE = 1e-4
STUDENT = """
_base_ = ['{configs}/quickstart_bevformer.py']
data_root = '{data_root}/'
model = dict(
    img_backbone=dict(base_channels=8, norm_eval=True),
    img_neck=dict(in_channels=[16, 32, 64], out_channels=16),
    pts_bbox_head=dict(
        embed_dims=16, num_query=20, bev_h=16, bev_w=16, encoder_layers=1, decoder_layers=2,
        num_heads=2, feedforward_channels=32))
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(data_root=data_root, ann_file=data_root + 'nuscenes_infos_val.pkl')
test_evaluator = val_evaluator
default_hooks = dict(logger=dict(interval=1))
train_cfg = dict(max_epochs=1, val_begin=1, val_interval=1)
"""
HISTORY = """
sequences = dict(type='ciba_bev.NuScenesSequenceDataset')
train_dataloader['dataset'].update(sequences, queue_length=4)
val_dataloader['dataset'].update(sequences)
val_dataloader['sampler'] = dict(_delete_=True, type='ciba_bev.SceneSequenceSampler')
"""
TEACHER = """
_base_ = ['{configs}/quickstart_object_dgcnn.py']
data_root = '{data_root}/'
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(data_root=data_root, ann_file=data_root + 'nuscenes_infos_val.pkl')
test_evaluator = val_evaluator
default_hooks = dict(logger=dict(interval=1))
train_cfg = dict(max_epochs=1, val_begin=1, val_interval=1)
"""


def train(folder: Path, *options: str, processes: int = 1) -> None:
    ended = run_tool(folder, 'train.py', 'config.py', *options, processes=processes)
    assert ended.returncode == 0, ended.stdout


def logged(work_dir: Path, key: str) -> list[float]:
    entries = []
    for log in sorted(work_dir.glob('*/vis_data/scalars.json')):
        entries += [json.loads(line) for line in log.read_text().splitlines()]
    return [entry[key] for entry in entries if key in entry]


def write_student(folder: Path, data_root: Path, more: str = '') -> None:
    text = STUDENT.format(configs=CONFIGS, data_root=data_root)
    (folder / 'config.py').write_text(text + more)


@pytest.mark.slow
def test_two_processes_train_the_student_like_one(simulated_nuscenes, tmp_path):
    """The same frames in the same order: equal losses, whoever computes them."""
    write_student(tmp_path, simulated_nuscenes)
    train(tmp_path, '--work-dir', 'alone')
    halved = ['--cfg-options', 'train_dataloader.batch_size=1']
    train(tmp_path, '--work-dir', 'together', *halved, processes=2)
    alone, together = (logged(tmp_path / name, 'loss') for name in ('alone', 'together'))
    assert len(alone) == len(together) == 4
    # Of seven frames the last batch has one; two processes fill it up with another.
    assert together[:3] == pytest.approx(alone[:3], rel=LOSS_TOLERANCE)


@pytest.mark.slow
def test_the_temporal_student_trains_resumes_and_scores(simulated_nuscenes, tmp_path):
    """A queue of frames in training, the carried map in testing, and a checkpoint that resumes."""
    write_student(tmp_path, simulated_nuscenes, HISTORY)
    train(tmp_path, '--work-dir', 'run')
    train(tmp_path, '--work-dir', 'run', '--resume', '--cfg-options', 'train_cfg.max_epochs=2')
    losses = logged(tmp_path / 'run', 'loss')
    assert len(losses) == 8
    assert losses[-1] < losses[0]
    words = ['config.py', 'run/epoch_2.pth', '--out', 'metrics.json', '--show-dir', 'pictures']
    ended = run_tool(tmp_path, 'test.py', *words)
    assert ended.returncode == 0, ended.stdout
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    (nds,) = (value for name, value in metrics.items() if name.endswith('NDS'))
    assert 0 <= nds <= 1
    assert list((tmp_path / 'pictures').glob('*.png'))


@pytest.mark.slow
def test_the_teacher_trains_and_refuses_the_students_weights(simulated_nuscenes, tmp_path):
    (tmp_path / 'config.py').write_text(
        TEACHER.format(configs=CONFIGS, data_root=simulated_nuscenes)
    )
    train(tmp_path, '--work-dir', 'run')
    assert len(logged(tmp_path / 'run', 'loss')) == 4

    write_student(tmp_path, simulated_nuscenes)
    ended = run_tool(tmp_path, 'test.py', 'config.py', 'run/epoch_1.pth')
    assert ended.returncode == 1
    assert 'run/epoch_1.pth' in ended.stdout
    assert 'Traceback' not in ended.stdout
