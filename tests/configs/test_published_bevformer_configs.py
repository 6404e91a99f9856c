"""BEVFormer-tiny, -small and -base as published, and CIBA onto each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from config_files import read_config as read
from mmcv.transforms import Compose
from mmengine.registry import init_default_scope

import ciba_bev  # noqa: F401
from ciba_bev.detection.bevformer.projection import lidar2img_matrices
from ciba_bev.distillation.taps import FeatureTap, align_to_student
from ciba_bev.registry import DATASETS, MODELS

# Of the public configs: grid, backbone, image levels, encoder layers, scale of the images, frames.
PUBLISHED = {
    'tiny': (50, 50, 1, 3, 0.5, 3),
    'small': (150, 101, 1, 3, 0.8, 3),
    'base': (200, 101, 4, 6, 1.0, 4),
}
EXTENT = [-51.2, -51.2, 51.2, 51.2]


def resizing(pipeline):
    """The steps of a pipeline that change the size of the images."""
    return [
        step
        for step in pipeline
        if step.type == 'MultiViewWrapper' and step.transforms[0].type == 'Resize3D'
    ]


@pytest.mark.parametrize('size', PUBLISHED)
def test_numbers_of_the_public_configs(size):
    grid, depth, levels, encoder_layers, _, queue = PUBLISHED[size]
    config = read(f'bevformer_{size}')
    head, backbone = config.model.pts_bbox_head, config.model.img_backbone
    assert (head.bev_h, head.bev_w, head.num_levels) == (grid, grid, levels)
    assert (head.encoder_layers, head.decoder_layers, head.num_query) == (encoder_layers, 6, 900)
    assert backbone.depth == depth
    assert backbone.norm_cfg == dict(type='BN', requires_grad=False)
    assert backbone.out_indices == ((3,) if levels == 1 else (1, 2, 3))
    assert config.model.img_neck.num_outs == levels
    assert config.train_dataloader.dataset.queue_length == queue
    mean, std = config.model.data_preprocessor['mean'], config.model.data_preprocessor['std']
    if depth == 101:
        assert backbone.style == 'caffe'
        assert backbone.stage_with_dcn == (False, False, True, True)
        assert (mean, std) == ([103.530, 116.280, 123.675], [1.0, 1.0, 1.0])
        assert not config.model.data_preprocessor.bgr_to_rgb
    else:
        assert 'dcn' not in backbone
        assert (mean[0], config.model.data_preprocessor.bgr_to_rgb) == (123.675, True)
    # The reference turns maps about cell (100, 100) of every grid; with 200 cells that is the
    # vehicle's own.
    center = MODELS.build(dict(head, embed_dims=16)).transformer.rotate_center
    assert tuple(center) == pytest.approx((100, 100))


@pytest.mark.parametrize('size', PUBLISHED)
def test_weights_of_the_real_width_have_the_published_shapes(size):
    grid, depth, levels, _, _, _ = PUBLISHED[size]
    init_default_scope('mmdet3d')
    with torch.device('meta'):
        model = MODELS.build(read(f'bevformer_{size}').model)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    attention = 'pts_bbox_head.transformer.encoder.layers.0.attentions.1.deformable_attention'
    assert shapes[f'{attention}.attention_weights.bias'] == (8 * 8 * levels,)
    assert shapes['pts_bbox_head.bev_embedding.weight'] == (grid * grid, 256)
    assert shapes['img_neck.lateral_convs.0.conv.weight'][1] == (2048 if levels == 1 else 512)
    deepest = 'img_backbone.layer3.22.conv2.conv_offset.weight'
    assert (deepest in shapes) == (depth == 101)


@pytest.mark.parametrize('prefix', ['', 'ciba_'])
@pytest.mark.parametrize('size', PUBLISHED)
def test_images_and_intrinsics_are_scaled_alike(size, prefix):
    scale = PUBLISHED[size][4]
    config = read(f'{prefix}bevformer_{size}' + ('_h4' if prefix else ''))
    pipelines = [config.train_dataloader.dataset.pipeline, config.test_dataloader.dataset.pipeline]
    if prefix:
        pipelines += [
            read(f'bottleneck_bevformer_{size}')[f'{loader}_dataloader'].dataset.pipeline
            for loader in ('train', 'val')
        ]
    init_default_scope('mmdet3d')
    for pipeline in pipelines:
        steps = resizing(pipeline)
        if scale == 1:
            assert not steps
            continue
        results = dict(
            img=[np.zeros((90, 160, 3), np.float32) for _ in range(6)],
            cam2img=[[[100.0, 0.0, 80.0], [0.0, 100.0, 45.0], [0.0, 0.0, 1.0]] for _ in range(6)],
            lidar2cam=[np.eye(4) for _ in range(6)],
            img_shape=(90, 160),
        )
        before = lidar2img_matrices(results)
        results = Compose(steps)(results)
        height, width = round(90 * scale), round(160 * scale)
        assert {image.shape[:2] for image in results['img']} == {(height, width)}
        after = lidar2img_matrices(results)
        np.testing.assert_allclose(after[:, :2], before[:, :2] * scale)
        np.testing.assert_allclose(after[:, 2:], before[:, 2:])


@pytest.mark.parametrize('size', PUBLISHED)
def test_distillation_trains_the_published_student(size):
    config, plain = read(f'ciba_bevformer_{size}_h4'), read(f'bevformer_{size}')
    assert config.model.student == plain.model
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'val_dataloader', 'val_evaluator'):
        assert config[key] == plain[key], key
    dataset = config.train_dataloader.dataset
    assert dataset.type == plain.train_dataloader.dataset.type
    assert dataset.queue_length == plain.train_dataloader.dataset.queue_length
    assert dataset.modality == dict(use_lidar=True, use_camera=True)
    # Beside the points, the data are the plain student's.
    plain_steps = plain.train_dataloader.dataset.pipeline
    added = [step.type for step in dataset.pipeline if step not in plain_steps]
    assert added == [
        'LoadPointsFromFile',
        'ciba_bev.LoadPointsFromMultiSweeps',
        'PointsRangeFilter',
        'PointShuffle',
        'ciba_bev.Pack3DDetInputs',
    ]
    assert 'ciba_bev.SpectrumHook' in [hook.type for hook in config.custom_hooks]


@pytest.mark.parametrize('size', PUBLISHED)
def test_bottlenecks_belong_to_the_distillation(size):
    distillation = read(f'ciba_bevformer_{size}_h4').model
    name = f'bottleneck_bevformer_{size}'
    training = read(name)
    assert distillation.bottleneck.config == f'configs/{name}.py'
    epochs = training.train_cfg.max_epochs
    assert distillation.bottleneck.checkpoint == f'work_dirs/{name}/epoch_{epochs}.pth'
    assert distillation.bottleneck['size'] in training.model.bottleneck_sizes
    assert training.model.student.config == f'configs/bevformer_{size}.py'
    assert training.model.student.checkpoint == f'pretrained/bevformer_{size}.pth'
    assert training.model.student.tap == distillation.student_tap
    assert training.model.teacher == distillation.teacher
    plain = read(f'bevformer_{size}').train_dataloader.dataset
    assert training.train_dataloader.dataset.queue_length == plain.queue_length
    assert training.train_dataloader.dataset.type == plain.type


@pytest.mark.parametrize('size', PUBLISHED)
def test_maps_are_matched_in_metres(size):
    grid = PUBLISHED[size][0]
    model = read(f'ciba_bevformer_{size}_h4').model
    teacher_tap, student_tap = FeatureTap(**model.teacher.tap), FeatureTap(**model.student_tap)
    assert list(student_tap.grid) == [grid, grid]
    assert list(student_tap.extent) == EXTENT

    def centres(cells):
        return torch.linspace(-51.2, 51.2, 2 * cells + 1)[1::2]

    # A teacher that writes each cell's own place, and the places that the student's cells have.
    x = centres(128).expand(128, 128)
    teacher = torch.stack((x, x.T))[None]
    aligned, window = align_to_student(
        teacher, torch.zeros(1, 1, grid, grid), teacher_tap, student_tap
    )
    x = centres(grid).expand(grid, grid)
    assert aligned.shape == (1, 2, grid, grid)
    # Half a teacher's cell at the rim is not interpolated.
    inner = slice(1, -1)
    torch.testing.assert_close(
        aligned[0, :, inner, inner], torch.stack((x, x.T))[:, inner, inner], rtol=0, atol=2e-2
    )
    assert [part.indices(grid) for part in window] == [(0, grid, 1)] * 2


@pytest.mark.parametrize('name', ['bevformer_tiny', 'ciba_bevformer_tiny_h4'])
def test_a_sequence_of_scaled_images_trains_a_student(name, simulated_nuscenes):
    config = read(name)
    init_default_scope('mmdet3d')
    dataset = config.train_dataloader.dataset
    dataset.update(data_root=str(simulated_nuscenes), use_valid_flag=False)
    item = DATASETS.build(dataset)[3]
    # 96 x 54 pixels, halved; three frames of six cameras.
    assert item['inputs']['img'].shape == (18, 3, 27, 48)
    assert ('points' in item['inputs']) == name.startswith('ciba')
    for frame in item['data_samples'].metainfo['frames']:
        for matrix in frame['cam2img']:
            # The principal point lies near the middle of the smaller image.
            assert np.asarray(matrix)[:2, 2] == pytest.approx((24, 13.5), abs=2)
    model = read('bevformer_tiny').model
    model.img_backbone.update(base_channels=4, init_cfg=None)
    model.img_neck.update(in_channels=[128], out_channels=16)
    model.pts_bbox_head.update(
        embed_dims=16, num_query=20, bev_h=10, bev_w=10, decoder_layers=2, feedforward_channels=32
    )
    student = MODELS.build(model)
    student.init_weights()
    batch = dict(inputs=dict(img=[item['inputs']['img']]), data_samples=[item['data_samples']])
    losses = student(**student.data_preprocessor(batch, True), mode='loss')
    assert all(value.isfinite().all() for value in losses.values())
