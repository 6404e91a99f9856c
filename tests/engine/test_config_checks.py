from pathlib import Path

import pytest
from mmengine.config import Config

from ciba_bev.engine.config_checks import check_config, check_grids, check_ranges
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
        (f'{DATASET}.ann_file', 'other.pkl', r'ann_file: (.|\n)*create_data\.py'),
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
    check_grids(cfg.model, path.name)
    datasets = [('train_dataloader', cfg.train_dataloader), ('val_dataloader', cfg.val_dataloader)]
    check_ranges(cfg.model, datasets, path.name)
