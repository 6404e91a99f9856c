"""The full-size models on one real nuScenes key frame, and a small one that learns it."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet3d.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

import ciba_bev  # noqa: F401
from ciba_bev.detection.bevformer.projection import lidar2img_matrices
from ciba_bev.detection.box_coding import gravity_center_boxes

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
INFO_FILE = 'n015-2018-07-24-11-22-45+0800.pkl'
GIGABYTE = 1024**3


def real_dataset(config: Config, folder: Path, loader: str = 'train_dataloader'):
    """The data set of a config, reading the one frame; its files lie in one flat folder."""
    dataset = config[loader].dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    dataset = dataset.copy()
    dataset.update(data_root=str(folder), ann_file=INFO_FILE)
    dataset.data_prefix = {key: '' for key in dataset.data_prefix}
    return DATASETS.build(dataset)


def load_config(name: str) -> Config:
    init_default_scope('mmdet3d')
    return Config.fromfile(CONFIGS / name, import_custom_modules=False)


def without_pretrained(model: dict) -> dict:
    model = model.copy()
    model.img_backbone.init_cfg = None
    return model


def make_batch(model: torch.nn.Module, item: dict, training: bool = False) -> dict:
    return model.data_preprocessor(pseudo_collate([item]), training)


def test_points_fall_on_objects_and_boxes_into_images(real_frame):
    """Boxes hold the LiDAR points their annotation counts, and project in front of cameras."""
    item = real_dataset(load_config('objectdgcnn_voxel01.py'), real_frame, 'val_dataloader')
    info = item.get_data_info(0)
    points = torch.from_numpy(
        np.fromfile(info['lidar_points']['lidar_path'], np.float32).reshape(-1, 5)[:, :3]
    )
    camera_set = real_dataset(load_config('bevformer_s_r50.py'), real_frame)
    sample = camera_set[0]['data_samples']
    lidar2img = lidar2img_matrices(sample.metainfo)
    assert lidar2img.shape == (6, 4, 4)

    boxes = sample.gt_instances_3d.bboxes_3d
    counted = boxes.points_in_boxes_all(points).sum(0)
    annotated = [
        instance['num_lidar_pts']
        for instance in info['instances']
        if instance['bbox_3d_isvalid'] and abs(np.array(instance['bbox_3d'][:2])).max() < 51.2
    ]
    assert len(annotated) == len(boxes)
    np.testing.assert_allclose(counted.numpy(), annotated, atol=2)

    centers = gravity_center_boxes(boxes)[:, :3].numpy()
    projected = np.einsum(
        'nij,kj->nki', lidar2img, np.pad(centers, ((0, 0), (0, 1)), constant_values=1)
    )
    depth = projected[..., 2]
    pixels = projected[..., :2] / depth[..., None]
    inside = (depth > 0) & (pixels > 0).all(-1) & (pixels < (1600, 900)).all(-1)
    assert inside.any(0).mean() > 0.9


@pytest.mark.slow
def test_full_size_teacher_runs_on_a_cpu(real_frame):
    """0.1 m voxels to boxes, through spconv's sparse convolutions."""
    pytest.importorskip('spconv', reason='sparse convolutions on a CPU need spconv')
    config = load_config('objectdgcnn_voxel01.py')
    model = MODELS.build(config.model).eval()
    dataset = real_dataset(config, real_frame, 'val_dataloader')
    batch = make_batch(model, dataset[0])
    with torch.no_grad():
        _, bev_levels = model.extract_feat(batch['inputs'], [])
        assert bev_levels[0].shape == (1, 256, 128, 128)
        results = model.pts_bbox_head.predict(bev_levels, batch['data_samples'])
    assert len(results[0].scores_3d) <= 300
    assert torch.isfinite(results[0].bboxes_3d.tensor).all()


TRAINING_STEP = """
import sys
sys.path.insert(0, {tests!r})
import torch
from pathlib import Path
from mmdet3d.registry import MODELS
from test_real_frame import load_config, make_batch, real_dataset, without_pretrained
config = load_config('bevformer_s_r50.py')
config.model.img_backbone.with_cp = True
config.model.pts_bbox_head.with_cp = True
torch.manual_seed(0)
model = MODELS.build(without_pretrained(config.model)).train()
batch = make_batch(model, real_dataset(config, Path({folder!r}))[0], training=True)
assert batch['inputs']['imgs'].shape == (1, 6, 3, 928, 1600)
losses = model.loss(batch['inputs'], batch['data_samples'])
sum(losses.values()).backward()
for name, parameter in model.named_parameters():
    assert parameter.grad is not None or not parameter.requires_grad, name
"""


@pytest.mark.slow
def test_full_size_student_trains_one_step_within_16_gb(real_frame):
    """Six 1600 x 900 images, 128 x 128 x 256 BEV, checkpointed, forward and backward."""
    code = TRAINING_STEP.format(tests=str(Path(__file__).parent), folder=str(real_frame))
    subprocess.run([sys.executable, '-c', code], check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    assert peak < 16 * GIGABYTE
