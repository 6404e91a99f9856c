"""Configs of detectors small enough to run in a second, with checkpoints of random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer

from ciba_bev.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
DATA = """
data_root = '{data_root}/'
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(data_root=data_root, ann_file=data_root + 'nuscenes_infos_val.pkl')
test_evaluator = val_evaluator
"""
STUDENT = """
_base_ = ['{configs}/quickstart_bevformer.py']
model = dict(
    img_backbone=dict(base_channels=8, norm_eval=True),
    img_neck=dict(in_channels=[16, 32, 64], out_channels=16),
    pts_bbox_head=dict(
        embed_dims=16, num_query=20, bev_h=16, bev_w=16, encoder_layers=1, decoder_layers=2,
        num_heads=2, feedforward_channels=32))
"""
SEQUENCES = """
val_dataloader['sampler'] = dict(_delete_=True, type='ciba_bev.SceneSequenceSampler')
val_dataloader['dataset'].update(type='ciba_bev.NuScenesSequenceDataset')
"""
TEACHER = """
_base_ = ['{configs}/quickstart_object_dgcnn.py']
"""


def write_student(path: Path, data_root: Path, history: bool = False) -> Path:
    """Write the config of a camera student, with or without history, and return the file."""
    text = (STUDENT + DATA + SEQUENCES * history).format(configs=CONFIGS, data_root=data_root)
    path.write_text(text)
    return path


def write_teacher(path: Path, data_root: Path) -> Path:
    """Write the config of a LiDAR teacher and return the file."""
    path.write_text((TEACHER + DATA).format(configs=CONFIGS, data_root=data_root))
    return path


def write_checkpoint(config: Path, path: Path) -> Path:
    """Write random weights as a training leaves them, with its log, and return the file."""
    cfg = Config.fromfile(config)
    torch.manual_seed(0)
    with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        model = registry.build(cfg.model)
    content = {
        'state_dict': model.state_dict(),
        'meta': {'epoch': 1, 'dataset_meta': {'classes': tuple(cfg.class_names)}},
        'message_hub': {'log_scalars': {'train/loss': HistoryBuffer([1.0, 0.5], [1, 1])}},
    }
    torch.save(content, path)
    return path
