"""Every config is read, its model is built, and its numbers are those of the paper's experiment."""

from __future__ import annotations

import re
from pathlib import Path

import mmengine.runner  # noqa: F401  registers the components of mmengine
import pytest
import torch
from config_files import read_config as read
from mmengine import registry
from mmengine.config import Config
from mmengine.registry import init_default_scope

import ciba_bev  # noqa: F401
from ciba_bev.registry import MODELS

pytestmark = pytest.mark.usefixtures('unfilled_weights')

PROJECT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((PROJECT / 'configs').glob('*.py'))
RECORDINGS = PROJECT.parent / 'shared' / 'parity'

CLASSES = [
    'car',
    'truck',
    'construction_vehicle',
    'bus',
    'trailer',
    'barrier',
    'motorcycle',
    'bicycle',
    'pedestrian',
    'traffic_cone',
]
RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
FULL_SIZE = [
    'bevformer_r50',
    'bevformer_r50_dcn_fcos3d',
    'bevformer_s_r50',
    'objectdgcnn_pillar02',
    'objectdgcnn_voxel01',
]
STUDENTS = [name for name in FULL_SIZE if name.startswith('bevformer')]
TEACHERS = [name for name in FULL_SIZE if name.startswith('objectdgcnn')]
# Where the components come from that a runner makes of these parts of a config.
REGISTRIES = dict(
    train_dataloader=None,
    val_dataloader=None,
    test_dataloader=None,
    dataset=registry.DATASETS,
    pipeline=registry.TRANSFORMS,
    sampler=registry.DATA_SAMPLERS,
    collate_fn=registry.FUNCTIONS,
    val_evaluator=registry.METRICS,
    test_evaluator=registry.METRICS,
    default_hooks=registry.HOOKS,
    custom_hooks=registry.HOOKS,
    optim_wrapper=registry.OPTIM_WRAPPERS,
    optimizer=registry.OPTIMIZERS,
    param_scheduler=registry.PARAM_SCHEDULERS,
    train_cfg=registry.LOOPS,
    val_cfg=registry.LOOPS,
    test_cfg=registry.LOOPS,
    log_processor=registry.LOG_PROCESSORS,
    visualizer=registry.VISUALIZERS,
    vis_backends=registry.VISBACKENDS,
)


def build(name):
    """The model of a config as it is before it gets its weights."""
    config = read(name)
    init_default_scope(config.default_scope)
    return MODELS.build(config.model)


def components(part, source=None):
    """Registry and type of everything that a part of a config lets a runner build."""
    if isinstance(part, dict):
        if 'type' in part:
            yield source, part['type']
        for key, value in part.items():
            # Hooks have keys of the users' own choice.
            new = source if source is registry.HOOKS else REGISTRIES.get(key, source)
            yield from components(value, new)
    elif isinstance(part, (list, tuple)):
        for value in part:
            yield from components(value, source)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope='module')
def heads():
    """Heads of the full-size models."""
    init_default_scope('mmdet3d')
    return dict(
        bevformer=MODELS.build(read('bevformer_r50').model.pts_bbox_head),
        object_dgcnn=MODELS.build(read('objectdgcnn_voxel01').model.pts_bbox_head),
    )


@pytest.mark.parametrize('path', CONFIGS, ids=[path.stem for path in CONFIGS])
def test_every_config_builds_its_model(path):
    config = read(path.stem)
    model = build(path.stem)
    assert parameters(model) > 1e4
    assert config.custom_imports.imports[0] == 'ciba_bev'
    detects = re.search('bevformer|object_?dgcnn', path.stem)
    assert config.default_scope == ('mmdet3d' if detects else 'mmengine')
    # No machine's own paths, and texts say what an experiment is.
    assert not re.search(r'[\'"]/', path.read_text())
    assert path.read_text().startswith('"""')


@pytest.mark.parametrize('path', CONFIGS, ids=[path.stem for path in CONFIGS])
def test_everything_that_a_runner_builds_is_registered(path):
    config = read(path.stem)
    init_default_scope(config.default_scope)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert config[name].dataset.type.startswith('ciba_bev.')
    found = set(components({name: config[name] for name in REGISTRIES if name in config}))
    assert len(found) >= 15
    for source, name in found:
        with source.switch_scope_and_registry(None) as scoped:
            assert scoped.get(name), f'{name!r} is no {source.name}'


@pytest.mark.parametrize(
    ('name', 'millions'),
    [
        ('bevformer_r50', 42.17),
        ('bevformer_s_r50', 42.17),
        ('objectdgcnn_voxel01', 15.56),
    ],
)
def test_number_of_parameters(name, millions):
    assert parameters(build(name)) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize('name', FULL_SIZE)
def test_what_teacher_and_student_share(name):
    config = read(name)
    head = config.model.pts_bbox_head
    assert list(config.metainfo.classes) == CLASSES
    assert list(head.point_cloud_range) == RANGE
    assert (head.num_classes, head.embed_dims, head.num_levels) == (10, 256, 4)
    assert config.model.get('pts_neck', config.model.get('img_neck')).out_channels == 256
    assert (head.encoder_layers, head.decoder_layers) == (6 if name in STUDENTS else 2, 6)
    assert head.feedforward_channels == 512
    optimizer = config.optim_wrapper
    assert (optimizer.optimizer.type, optimizer.optimizer.weight_decay) == ('AdamW', 0.01)
    assert optimizer.clip_grad == dict(max_norm=35, norm_type=2)


@pytest.mark.parametrize('name', STUDENTS)
def test_student(name):
    config = read(name)
    head = config.model.pts_bbox_head
    assert (head.bev_h, head.bev_w, head.num_query) == (128, 128, 900)
    assert (head.num_cams, head.num_spatial_points, head.num_points_in_pillar) == (6, 8, 4)
    assert config.model.num_cams == 6
    assert config.model.use_grid_mask
    assert config.model.data_preprocessor.pad_size_divisor == 32
    backbone = config.model.img_backbone
    assert (backbone.depth, backbone.frozen_stages, backbone.norm_eval) == (50, 1, True)
    assert backbone.out_indices == (1, 2, 3)
    assert ('dcn' in backbone) == ('dcn' in name)
    assert config.train_cfg.max_epochs == 24
    assert config.train_dataloader.batch_size == 1
    assert config.optim_wrapper.optimizer.lr == 2e-4
    assert config.optim_wrapper.paramwise_cfg.custom_keys.img_backbone.lr_mult == 0.1
    warm_up, cosine = config.param_scheduler
    assert (warm_up.type, warm_up.end, warm_up.start_factor) == ('LinearLR', 500, 1 / 3)
    assert (cosine.type, cosine.T_max, cosine.eta_min_ratio) == ('CosineAnnealingLR', 24, 1e-3)
    train = config.train_dataloader.dataset
    if name == 'bevformer_s_r50':
        assert train.type == 'ciba_bev.NuScenesFrameDataset'
    else:
        assert (train.type, train.queue_length) == ('ciba_bev.NuScenesSequenceDataset', 4)
        assert config.val_dataloader.sampler.type == 'ciba_bev.SceneSequenceSampler'
    assert config.val_dataloader.batch_size == 1
    # What mmdet3d's PhotoMetricDistortion3D does by default, and once: on the device.
    assert config.model.data_preprocessor.photometric_distortion == dict(
        brightness_delta=32, contrast_range=[0.5, 1.5], saturation_range=[0.5, 1.5], hue_delta=18
    )
    assert 'MultiViewWrapper' not in [step.type for step in train.pipeline]


def test_only_the_plain_students_start_from_imagenet():
    for name in ('bevformer_r50', 'bevformer_s_r50'):
        assert 'resnet50' in read(name).model.img_backbone.init_cfg.checkpoint
        assert read(name).load_from is None
    config = read('bevformer_r50_dcn_fcos3d')
    assert 'fcos3d' in config.model.img_backbone.init_cfg.checkpoint
    assert config.load_from is None
    assert config.model.img_backbone.stage_with_dcn == (False, False, True, True)


@pytest.mark.parametrize('name', TEACHERS)
def test_teacher(name):
    config = read(name)
    head = config.model.pts_bbox_head
    assert (head.num_query, head.self_attention, head.num_neighbors) == (300, 'graph', 16)
    voxels = config.model.data_preprocessor.voxel_layer
    if name == 'objectdgcnn_voxel01':
        assert list(voxels.voxel_size) == [0.1, 0.1, 0.2]
        assert (voxels.max_num_points, list(voxels.max_voxels)) == (10, [90000, 120000])
        encoder = config.model.pts_middle_encoder
        assert list(encoder.sparse_shape) == [41, 1024, 1024]
        assert encoder.encoder_channels == ((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128))
        backbone = config.model.pts_backbone
        assert (backbone.in_channels, backbone.out_channels) == (256, [128, 256])
        assert (backbone.layer_nums, backbone.layer_strides) == ([5, 5], [1, 2])
    else:
        assert list(voxels.voxel_size[:2]) == [0.2, 0.2]
    assert config.train_cfg.max_epochs == 20
    assert config.train_dataloader.batch_size == 4
    assert config.train_dataloader.dataset.type == 'ciba_bev.CBGSDataset'
    pipeline = {step.type: step for step in config.train_dataloader.dataset.dataset.pipeline}
    assert pipeline['ciba_bev.LoadPointsFromMultiSweeps'].sweeps_num == 9
    assert pipeline['GlobalRotScaleTrans'].rot_range == [-0.3925, 0.3925]
    assert pipeline['GlobalRotScaleTrans'].scale_ratio_range == [0.95, 1.05]
    assert {'RandomFlip3D', 'PointsRangeFilter', 'ObjectRangeFilter'} <= set(pipeline)
    assert config.optim_wrapper.optimizer.lr == 1e-4


@pytest.mark.parametrize('kind', ['bevformer', 'object_dgcnn'])
def test_losses_of_the_full_size_heads(heads, kind):
    head = heads[kind]
    assert (head.loss_cls.loss_weight, head.loss_bbox.loss_weight) == (2.0, 0.25)
    assert (head.loss_cls.gamma, head.loss_cls.alpha) == (2.0, 0.25)
    assert head.code_weights.tolist() == pytest.approx([1.0] * 8 + [0.2] * 2)
    assert head.bbox_coder.max_num == 300


def layer_free(names):
    """Names of weights with the numbers of repeated layers left out."""
    return {re.sub(r'(layers|branches)\.\d+\.', r'\1.*.', name) for name in names}


@pytest.mark.parametrize(
    ('kind', 'recording'),
    [
        ('bevformer', 'bevformer_single_frame.pt'),
        ('bevformer', 'bevformer_temporal.pt'),
        ('object_dgcnn', 'object_dgcnn.pt'),
    ],
)
def test_published_weights_find_their_names(heads, kind, recording):
    if not RECORDINGS.is_dir():
        pytest.skip(f'the recordings of the reference implementations are not at {RECORDINGS}')
    weights = torch.load(RECORDINGS / recording, weights_only=True)['state_dict']
    names = [name.replace('pts_bbox_head.', '', 1) for name in weights]
    assert layer_free(names) == layer_free(heads[kind].state_dict())


@pytest.mark.parametrize(
    ('name', 'canvas', 'level'), [('objectdgcnn_voxel01', 128, 0), ('objectdgcnn_pillar02', 512, 1)]
)
def test_teacher_and_student_maps_have_one_shape(name, canvas, level):
    init_default_scope('mmdet3d')
    model = read(name).model
    backbone, neck = MODELS.build(model.pts_backbone), MODELS.build(model.pts_neck)
    bev = torch.zeros(1, model.pts_backbone.in_channels, canvas, canvas, device='meta')
    levels = neck.to('meta')(backbone.to('meta')(bev))
    student = read('bevformer_r50').model.pts_bbox_head
    assert levels[level].shape == (1, student.embed_dims, student.bev_h, student.bev_w)
    assert len(levels) == model.pts_bbox_head.num_levels


TABLE_2 = {
    'mse_bevformer_r50': (None, 'bevformer_r50'),
    'mse_gt_bevformer_r50': (None, 'bevformer_r50'),
    **{f'ciba_bevformer_r50_h{h}': (h, 'bevformer_r50') for h in (2, 4, 8, 16, 32, 64, 128)},
    'mse_bevformer_s_r50': (None, 'bevformer_s_r50'),
    'ciba_bevformer_s_r50_h4': (4, 'bevformer_s_r50'),
    'quickstart_mse_bevformer': (None, 'quickstart_bevformer'),
    'quickstart_mse_gt_bevformer': (None, 'quickstart_bevformer'),
    'quickstart_ciba_bevformer_h8': (8, 'quickstart_bevformer'),
}


@pytest.mark.parametrize('name', TABLE_2)
def test_distillation_trains_the_plain_student_as_it_is_trained_alone(name):
    size, plain = TABLE_2[name]
    config, student = read(name), read(plain)
    assert config.model.type == 'ciba_bev.Distiller'
    assert config.model.student == student.model
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'val_dataloader', 'val_evaluator'):
        assert config[key] == student[key], key
    ours, theirs = config.train_dataloader, student.train_dataloader
    assert (ours.batch_size, ours.dataset.type) == (theirs.batch_size, theirs.dataset.type)
    assert ours.dataset.modality == dict(use_lidar=True, use_camera=True)
    bottleneck = config.model.get('bottleneck')
    assert (bottleneck and bottleneck['size']) == size
    weighted = config.model.get('target_weight')
    assert bool(weighted) == ('_gt_' in name)
    # The LiDAR frame is not moved: the images are not either.
    moved = {'GlobalRotScaleTrans', 'RandomFlip3D'}
    assert not moved & {step.type for step in ours.dataset.pipeline}


@pytest.mark.parametrize(
    'name', [*TABLE_2, 'bottleneck_bevformer_r50', 'bottleneck_bevformer_s_r50']
)
def test_checkpoints_are_those_that_the_named_configs_write_last(name):
    model = read(name).model
    found = []
    for role in ('teacher', 'student', 'bottleneck'):
        part = model.get(role) or {}
        if 'checkpoint' in part:
            path = Path(part.config)
            assert path.parent == Path('configs')
            epochs = read(path.stem).train_cfg.max_epochs
            assert part.checkpoint.endswith(f'/epoch_{epochs}.pth')
            if not name.startswith('quickstart'):
                assert part.checkpoint.startswith(f'work_dirs/{path.stem}/')
            found.append(role)
    assert (
        found
        == {
            'ciba': ['teacher', 'bottleneck'],
            'mse': ['teacher'],
            'bottleneck': ['teacher', 'student'],
        }[name.replace('quickstart_', '').split('_')[0]]
    )


@pytest.mark.parametrize('name', ['bottleneck_bevformer_r50', 'bottleneck_bevformer_s_r50'])
def test_bottlenecks_of_all_sizes_of_table_2(name):
    config = read(name)
    sizes = [size for size, plain in TABLE_2.values() if size and plain == 'bevformer_r50']
    assert sorted(config.model.bottleneck_sizes) == sorted(sizes)
    taps = [config.model[role].tap for role in ('teacher', 'student')]
    assert taps[0].grid == taps[1].grid == [128, 128]
    assert taps[0].extent == taps[1].extent == [-51.2, -51.2, 51.2, 51.2]
    # Features are those that the two models give in use: nothing is augmented.
    random = {'MultiViewWrapper', 'PhotoMetricDistortion3D', 'PointShuffle', 'RandomFlip3D'}
    for loader in (config.train_dataloader, config.val_dataloader):
        assert not random & {step.type for step in loader.dataset.pipeline}
        assert loader.dataset.modality == dict(use_lidar=True, use_camera=True)


def test_configs_of_the_first_version_still_import_what_they_name(tmp_path):
    """As work folders and tools/new_pair.py of version 0.1.0 hold them."""
    file = tmp_path / 'old.py'
    file.write_text("custom_imports = dict(imports=['ciba_bev', 'ciba_bev.runner'])\n")
    Config.fromfile(str(file))
