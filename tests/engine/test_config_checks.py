from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from ciba_bev.engine.config_checks import (
    check_box_limit,
    check_camera_counts,
    check_class_counts,
    check_config,
    check_grids,
    check_kept_range,
    check_ranges,
)
from ciba_bev.engine.config_checks.nested import dicts_with
from ciba_bev.errors import CibaError

RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
PROJECT = Path(__file__).resolve().parents[2]


def good_config(root):
    """A voxel detector with a BEV head, and a training set that lies in ``root``."""
    (root / 'infos.pkl').touch()
    (root / 'my_config.py').touch()
    dataset = {
        'type': 'NuScenesDataset',
        'data_root': str(root),
        'ann_file': 'infos.pkl',
        'metainfo': {'classes': ['car', 'pedestrian']},
        'pipeline': [{'type': 'PointsRangeFilter', 'point_cloud_range': RANGE}],
    }
    head = {
        'bev_h': 128,
        'bev_w': 96,
        'pc_range': RANGE,
        'type': 'ciba_bev.BEVFormerHead',
        'num_classes': 2,
        'num_cams': 6,
        'positional_encoding': {'row_num_embed': 128, 'col_num_embed': 96},
        'transformer': {'encoder': {'bev_h': 128, 'bev_w': 96}},
    }
    model = {
        'data_preprocessor': {
            'voxel_layer': {'point_cloud_range': RANGE, 'voxel_size': [0.1, 0.1, 0.2]}
        },
        'pts_middle_encoder': {'sparse_shape': [41, 1024, 1024]},
        'pts_bbox_head': head,
        'train_cfg': {'grid_size': [1024, 1024, 40]},
    }
    cfg = Config(
        {
            'default_scope': 'mmdet3d',
            'custom_imports': {'imports': ['mmdet3d.datasets']},
            'model': model,
            'train_dataloader': {'dataset': {'type': 'CBGSDataset', 'dataset': dataset}},
        },
        filename=str(root / 'my_config.py'),
    )
    import mmdet3d.datasets  # noqa: F401  (what custom_imports does when a file is read)

    return cfg


def test_accepts_a_consistent_config(tmp_path):
    check_config(good_config(tmp_path))


@pytest.mark.parametrize('height', [40, 41])
def test_accepts_both_customs_for_the_height(tmp_path, height):
    cfg = good_config(tmp_path)
    cfg.model.pts_middle_encoder.sparse_shape = [height, 1024, 1024]
    check_config(cfg)


DATASET = 'train_dataloader.dataset.dataset'


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        (
            'model.data_preprocessor.voxel_layer.voxel_size',
            [0.1, 0.3, 0.2],
            r'model\.data_preprocessor\.voxel_layer: along y .* 341\.333 cells of 0\.3 m',
        ),
        (
            'model.pts_middle_encoder.sparse_shape',
            [41, 512, 1024],
            r'model\.pts_middle_encoder\.sparse_shape is \[41, 512, 1024\].*\[40, 1024, 1024\]',
        ),
        (
            'model.pts_middle_encoder',
            {'output_shape': [512, 512]},
            r'output_shape .*\[1024, 1024\]',
        ),
        ('model.train_cfg.grid_size', [1024, 512, 40], r'model\.train_cfg\.grid_size'),
        (
            'model.pts_bbox_head.positional_encoding.col_num_embed',
            128,
            r'positional_encoding\.col_num_embed is 128, but model\.pts_bbox_head\.bev_w is 96',
        ),
        (
            'model.pts_bbox_head.transformer.encoder.bev_h',
            100,
            r'transformer\.encoder\.bev_h is 100, but model\.pts_bbox_head\.bev_h is 128',
        ),
        (
            'model.pts_bbox_head.pc_range',
            [-50, -50, -5, 50, 50, 3],
            r'model\.pts_bbox_head\.pc_range is \[-50\.0,',
        ),
        (
            f'{DATASET}.pipeline',
            [{'type': 'ObjectRangeFilter', 'point_cloud_range': [0, -50, -5, 50, 50, 3]}],
            r'pipeline\[0\]\.point_cloud_range is \[0\.0,',
        ),
        (
            f'{DATASET}.metainfo.classes',
            ['car', 'pedestrain'],
            r"metainfo\.classes has 'pedestrain'.*Did you mean 'pedestrian'",
        ),
        (f'{DATASET}.data_root', 'nowhere', r'data_root is nowhere(.|\n)*simulate_nuscenes\.py'),
        (
            f'{DATASET}.ann_file',
            'other.pkl',
            r'ann_file is .*other\.pkl, and there is no such file(.|\n)*create_data\.py',
        ),
        (f'{DATASET}.metainfo.classes', [], r'metainfo\.classes is empty'),
        (
            'model.pts_bbox_head.num_classes',
            3,
            r'model\.pts_bbox_head\.num_classes has 3 classes, but '
            r'train_dataloader.*\.metainfo\.classes has 2',
        ),
        (
            'model.bbox_head',
            {'type': 'CenterHead', 'tasks': [{'num_class': 1, 'class_names': ['car']}]},
            r'model\.bbox_head\.tasks has 1 classes',
        ),
        ('model.num_cams', 2, r'pts_bbox_head\.num_cams is 6, but model\.num_cams is 2'),
        (
            f'{DATASET}.pipeline',
            [{'type': 'LoadMultiViewImageFromFiles', 'num_views': 5}],
            r'pipeline\[0\]\.num_views is 5, but model\.pts_bbox_head\.num_cams is 6',
        ),
        (
            'model.pts_bbox_head.bbox_coder',
            {'type': 'NMSFreeCoder', 'post_center_range': [-40, -61, -10, 61, 61, 10]},
            r'bbox_coder\.post_center_range is \[-40, .* does not contain',
        ),
        ('load_from', 'nowhere.pth', r'no checkpoint nowhere\.pth \(wanted by load_from\)'),
        (
            'model.backbone',
            {'init_cfg': {'type': 'Pretrained', 'checkpoint': 'no.pth'}},
            r'wanted by model\.backbone\.init_cfg\.checkpoint',
        ),
    ],
)
def test_names_file_and_field_of_a_mistake(tmp_path, field, value, message):
    cfg = good_config(tmp_path)
    cfg.merge_from_dict({field: value})
    with pytest.raises(CibaError, match=r'my_config\.py: (.|\n)*' + message):
        check_config(cfg)


def widened(cfg, half_width):
    """The config with another range in all places, and no grid."""
    bounds = [-half_width, -half_width, -5.0, half_width, half_width, 3.0]
    cfg.model = {
        'pts_bbox_head': {
            'type': 'ciba_bev.BEVFormerHead',
            'num_classes': 2,
            'point_cloud_range': bounds,
        }
    }
    cfg.merge_from_dict({f'{DATASET}.pipeline': []})
    return cfg


def test_boxes_beyond_the_default_range_of_the_coder_are_not_lost(tmp_path):
    check_config(widened(good_config(tmp_path), 61.2))
    far = widened(good_config(tmp_path), 75.2)
    with pytest.raises(CibaError, match=r'bbox_coder\.post_center_range is .*61\.2.* by default'):
        check_config(far)
    far.model.pts_bbox_head.bbox_coder = {
        'type': 'ciba_bev.TopScoreBoxCoder',
        'post_center_range': [-80, -80, -10, 80, 80, 10],
    }
    check_config(far)


def scored_config(root):
    """The config with a validation set and its evaluator."""
    cfg = good_config(root)
    cfg.train_cfg = {'by_epoch': True, 'max_epochs': 3}
    cfg.val_dataloader = {'dataset': cfg.train_dataloader.dataset.dataset}
    cfg.val_evaluator = {
        'type': 'NuScenesMetric',
        'data_root': str(root),
        'ann_file': str(root / 'infos.pkl'),
    }
    return cfg


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        ('data_root', 'nowhere/', r'val_evaluator\.data_root is nowhere/, and there is no such f'),
        ('ann_file', 'nowhere.pkl', r'val_evaluator\.ann_file is nowhere\.pkl, and there is no'),
    ],
)
def test_what_the_evaluator_reads_is_looked_for_before_training(tmp_path, field, value, message):
    cfg = scored_config(tmp_path)
    check_config(cfg)
    cfg.val_evaluator[field] = value
    with pytest.raises(CibaError, match=message) as caught:
        check_config(cfg)
    assert f'val_evaluator.ann_file={tmp_path / "infos.pkl"}' in str(caught.value)
    # An evaluator of a list is looked at, too; one that training never comes to is not.
    cfg.val_evaluator = [cfg.val_evaluator]
    with pytest.raises(CibaError, match=r'val_evaluator\[0\]'):
        check_config(cfg)
    cfg.train_cfg.val_begin = 4
    check_config(cfg)
    cfg.train_cfg = {'by_epoch': False, 'max_iters': 10, 'val_begin': 10}
    with pytest.raises(CibaError):
        check_config(cfg)


def test_more_boxes_than_the_devkit_scores_are_refused_before_training(tmp_path):
    from nuscenes.eval.detection.config import config_factory

    cfg = scored_config(tmp_path)
    most = config_factory('detection_cvpr_2019').max_boxes_per_sample
    cfg.model.pts_bbox_head.bbox_coder = {'type': 'ciba_bev.TopScoreBoxCoder', 'max_num': most}
    check_config(cfg)
    cfg.model.pts_bbox_head.bbox_coder.max_num = most + 1
    with pytest.raises(CibaError, match=r'max_num is 501'):
        check_config(cfg)


def test_links_that_lead_nowhere_are_named(tmp_path):
    cfg = good_config(tmp_path)
    link = tmp_path / 'link'
    link.symlink_to(tmp_path / 'gone')
    cfg.merge_from_dict({f'{DATASET}.data_root': str(link / 'nuscenes')})
    with pytest.raises(CibaError, match=r'link is a link to .*gone, which does not exist'):
        check_config(cfg)
    link.unlink()
    link.symlink_to(tmp_path / 'infos.pkl')
    cfg.merge_from_dict({f'{DATASET}.data_root': str(link)})
    with pytest.raises(CibaError, match=r'link is a file, not a folder'):
        check_config(cfg)
    (tmp_path / 'there').mkdir()
    cfg.merge_from_dict({f'{DATASET}.data_root': str(tmp_path), f'{DATASET}.ann_file': 'there'})
    with pytest.raises(CibaError, match=r'there is a folder, not a file'):
        check_config(cfg)


def test_a_work_folder_that_cannot_be_one_is_refused(tmp_path):
    cfg = good_config(tmp_path)
    cfg.work_dir = str(tmp_path / 'new' / 'folder')
    check_config(cfg)
    cfg.work_dir = str(tmp_path / 'infos.pkl' / 'run')
    with pytest.raises(CibaError, match=r'infos\.pkl is a file, not a folder'):
        check_config(cfg)
    (tmp_path / 'work').symlink_to('nowhere')
    cfg.work_dir = str(tmp_path / 'work')
    with pytest.raises(CibaError, match=r'work is a link to nowhere, which does not exist'):
        check_config(cfg)


def test_looks_only_at_the_data_of_its_stages(tmp_path):
    cfg = good_config(tmp_path)
    cfg.merge_from_dict({f'{DATASET}.data_root': 'nowhere'})
    check_config(cfg, stages=('test',))


def test_missing_results_of_earlier_experiments_name_the_commands_in_order(tmp_path):
    cfg = good_config(tmp_path)
    there = tmp_path / 'student.pth'
    there.touch()
    cfg.model.bottleneck = dict(config='configs/bottleneck.py', checkpoint='work_dirs/b.pth')
    cfg.model.student = dict(config='configs/student.py', checkpoint=str(there))
    cfg.model.teacher = dict(config='configs/teacher.py', checkpoint='work_dirs/t.pth')
    with pytest.raises(CibaError) as caught:
        check_config(cfg)
    message = str(caught.value)
    commands = [line for line in message.splitlines() if line.startswith('bash')]
    assert commands == [
        'bash tools/dist_train.sh configs/teacher.py 8',
        'bash tools/dist_train.sh configs/bottleneck.py 8',
    ]
    assert '--cfg-options model.teacher.checkpoint=FILE' in message
    # A student is tested without any of them.
    check_config(cfg, stages=('test',))


@pytest.mark.parametrize(
    'path', sorted((PROJECT / 'configs').glob('*.py')), ids=lambda path: path.stem
)
def test_accepts_the_projects_own_configs(path):
    cfg = Config.fromfile(str(path))
    init_default_scope(cfg.default_scope)
    loaders = [(name, cfg[name]) for name in ('train_dataloader', 'val_dataloader')]
    check_grids(cfg.model, path.name)
    check_ranges(cfg.model, loaders, path.name)
    check_kept_range(cfg.model, path.name)
    check_camera_counts(cfg.model, loaders, path.name)
    check_box_limit(cfg, ('train', 'val', 'test'), path.name)
    datasets = [found for name, part in loaders for found in dicts_with(part, 'ann_file', name)]
    check_class_counts(cfg.model, datasets, path.name)
