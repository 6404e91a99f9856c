"""The full-size models on one real nuScenes key frame, and a small one that learns it."""

from __future__ import annotations

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


def real_dataset(config: Config, folder: Path, loader: str = 'train_dataloader'):
    """The data set of a config, reading the one frame; its files lie in one flat folder."""
    dataset = config[loader].dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    dataset = dataset.copy()
    dataset.update(data_root=str(folder), ann_file=INFO_FILE)
    dataset.data_prefix = dict.fromkeys(dataset.data_prefix, '')
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


def count_inside(points: np.ndarray, box: np.ndarray) -> int:
    """Points (N, 3) inside a box (x, y, z, length, width, height, yaw, ...)."""
    cosine, sine = np.cos(box[6]), np.sin(box[6])
    offset = points - box[:3]
    along = offset[:, 0] * cosine + offset[:, 1] * sine
    across = offset[:, 1] * cosine - offset[:, 0] * sine
    local = np.abs(np.stack((along, across, offset[:, 2]), axis=1))
    return int((local <= box[3:6] / 2).all(1).sum())


def test_points_fall_on_objects_and_boxes_into_images(real_frame):
    """Boxes hold the LiDAR points their annotation counts, and project in front of cameras."""
    config = load_config('objectdgcnn_voxel01.py')
    info = real_dataset(config, real_frame, 'val_dataloader').get_data_info(0)
    points = np.fromfile(info['lidar_points']['lidar_path'], np.float32).reshape(-1, 5)[:, :3]
    camera_set = real_dataset(load_config('bevformer_s_r50.py'), real_frame)
    sample = camera_set[0]['data_samples']
    lidar2img = lidar2img_matrices(sample.metainfo)
    assert lidar2img.shape == (6, 4, 4)

    seen = [instance for instance in info['instances'] if instance['bbox_3d_isvalid']]
    boxes = np.array([instance['bbox_3d'] for instance in seen])
    annotated = np.array([instance['num_lidar_pts'] for instance in seen])
    counted = np.array([count_inside(points, box) for box in boxes])
    # The annotated boxes were drawn on points before motion compensation: a few points differ.
    assert (np.abs(counted - annotated) <= 2 + 0.05 * annotated).mean() > 0.95

    centers = np.pad(boxes[:, :3], ((0, 0), (0, 1)), constant_values=1)
    projected = np.einsum('nij,kj->nki', lidar2img, centers)
    depth = projected[..., 2]
    pixels = projected[..., :2] / depth[..., None]
    inside = (depth > 0) & (pixels > 0).all(-1) & (pixels < (1600, 900)).all(-1)
    assert inside.any(0).mean() > 0.9


@pytest.mark.slow
def test_full_size_teacher_runs_on_a_cpu(real_frame):
    """0.1 m voxels to boxes."""
    config = load_config('objectdgcnn_voxel01.py')
    model = MODELS.build(config.model).eval()
    dataset = real_dataset(config, real_frame, 'val_dataloader')
    batch = make_batch(model, dataset[0])
    with torch.no_grad():
        _, bev_levels = model.extract_feat(batch['inputs'], [])
        assert bev_levels[0].shape == (1, 256, 128, 128)
        results = model.pts_bbox_head.predict(bev_levels, batch['data_samples'])
    assert len(results[0].scores_3d) == 300
    assert torch.isfinite(results[0].bboxes_3d.tensor).all()


@pytest.mark.slow
def test_full_size_student_trains_one_step(real_frame):
    """All of its weights get a gradient; its images are halved, for the test's time."""
    config = load_config('bevformer_s_r50.py')
    resize_images(config, (800, 450))
    config.model.img_backbone.with_cp = True
    config.model.pts_bbox_head.with_cp = True
    torch.manual_seed(0)
    model = MODELS.build(without_pretrained(config.model)).train()
    batch = make_batch(model, real_dataset(config, real_frame)[0], training=True)
    assert batch['inputs']['imgs'].shape == (1, 6, 3, 480, 800)
    sum(model.loss(batch['inputs'], batch['data_samples']).values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None or not parameter.requires_grad, name


def resize_images(config: Config, scale: tuple[int, int]) -> None:
    """Let the training pipeline resize each image, to (width, height)."""
    resize = dict(type='Resize3D', scale=scale, keep_ratio=True)
    resize = dict(type='MultiViewWrapper', transforms=[resize])
    config.train_dataloader.dataset.pipeline.insert(1, resize)


def small_student_config() -> Config:
    """A narrow ResNet-18, 32 x 32 BEV cells and images of 320 x 180, not distorted."""
    config = load_config('bevformer_s_r50.py')
    config.merge_from_dict(
        dict(
            model=dict(
                use_grid_mask=False,
                data_preprocessor=dict(photometric_distortion=None),
                img_backbone=dict(
                    depth=18, base_channels=24, frozen_stages=-1, norm_eval=False, init_cfg=None
                ),
                img_neck=dict(in_channels=[48, 96, 192], out_channels=64, num_outs=3),
                pts_bbox_head=dict(
                    embed_dims=64,
                    num_query=80,
                    bev_h=32,
                    bev_w=32,
                    num_levels=3,
                    encoder_layers=2,
                    decoder_layers=2,
                    num_heads=4,
                    num_spatial_points=4,
                    feedforward_channels=128,
                    dropout=0.0,
                ),
            )
        )
    )
    resize_images(config, (320, 180))
    return config


@pytest.mark.slow
def test_small_student_learns_the_frame_by_heart(real_frame):
    """Trained on one frame only, its boxes come out where and as they are."""
    torch.manual_seed(0)
    config = small_student_config()
    model = MODELS.build(config.model).train()
    batch = make_batch(model, real_dataset(config, real_frame)[0], training=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    steps = 250
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(model.loss(batch['inputs'], batch['data_samples']).values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 35)
        optimizer.step()
        schedule.step()

    sample = batch['data_samples'][0]
    truth = gravity_center_boxes(sample.gt_instances_3d.bboxes_3d)
    labels = sample.gt_instances_3d.labels_3d
    # Batch statistics of this one frame are what it has learned with.
    with torch.no_grad():
        bev_embed = model.extract_feat(batch['inputs'], batch['data_samples'])
        (predicted,) = model.pts_bbox_head.predict(bev_embed, batch['data_samples'])
    confident = predicted.scores_3d > 0.3
    boxes = gravity_center_boxes(predicted.bboxes_3d[confident])
    distance = torch.cdist(truth[:, :2], boxes[:, :2])
    distance[labels[:, None] != predicted.labels_3d[confident]] = float('inf')
    nearest = distance.min(1)
    found = nearest.values < 1.0
    print(f'{int(found.sum())} of {len(truth)} boxes found, {len(boxes)} predicted')
    assert found.float().mean() > 0.9
    assert len(boxes) < 1.2 * len(truth)
    sizes = (boxes[nearest.indices[found], 3:6] / truth[found, 3:6]).log().abs()
    assert sizes.median() < 0.1
