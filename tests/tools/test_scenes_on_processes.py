"""The temporal student detects the same on one, two and three processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tool_processes import run_tool

from ciba_bev.detection.nuscenes.info_files import load_info_file, save_info_file
from ciba_bev.registry import MODELS

PROJECT = Path(__file__).resolve().parents[2]
CONFIG = """
_base_ = ['{configs}/quickstart_bevformer.py']
model = dict(
    img_backbone=dict(base_channels=8, norm_eval=True),
    img_neck=dict(in_channels=[16, 32, 64], out_channels=16),
    pts_bbox_head=dict(
        embed_dims=16, num_query=20, bev_h=16, bev_w=16, encoder_layers=1, decoder_layers=2,
        num_heads=2, feedforward_channels=32))
test_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        type='ciba_bev.NuScenesSequenceDataset', data_root='{data}/', ann_file='{infos}'))
# mmdet3d's metric takes a part of a split; ours would refuse it as a submission.
test_evaluator = dict(
    type='NuScenesMetric', data_root='{data}/', ann_file='{infos}',
    format_only=True, jsonfile_prefix='results')
"""


@pytest.fixture
def folder(simulated_nuscenes, tmp_path):
    """A config, weights and an info file of two scenes, of seven and of four frames."""
    train, val = (
        load_info_file(simulated_nuscenes / f'nuscenes_infos_{split}.pkl')
        for split in ('train', 'val')
    )
    infos = [*train['data_list'], *val['data_list'][:4]]
    for number, info in enumerate(infos):
        info['sample_idx'] = number
    path = tmp_path / 'two_scenes_infos.pkl'
    save_info_file({'metainfo': train['metainfo'], 'data_list': infos}, path)
    text = CONFIG.format(configs=PROJECT / 'configs', data=simulated_nuscenes, infos=path)
    (tmp_path / 'config.py').write_text(text)
    init_default_scope('mmdet3d')
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(tmp_path / 'config.py').model)
    for value in model.pts_bbox_head.parameters():
        # The usual start ignores the previous map.
        torch.nn.init.normal_(value, std=0.2)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'weights.pth')
    return tmp_path


def detect(folder, processes):
    ended = run_tool(folder, 'test.py', 'config.py', 'weights.pth', processes=processes)
    assert ended.returncode == 0, ended.stdout
    written = folder / 'results' / 'pred_instances_3d' / 'results_nusc.json'
    found = json.loads(written.read_text())['results']
    written.unlink()
    return found, ended.stdout


@pytest.mark.slow
def test_as_many_processes_as_one_likes(folder):
    """Of three processes one has no scene."""
    alone, _ = detect(folder, 1)
    assert len(alone) == 11
    for processes in (2, 3):
        together, output = detect(folder, processes)
        assert together == alone
        assert 'without history' not in output
