import re
import shutil
from types import SimpleNamespace

import pytest
from mmdet3d.registry import DATASETS as MMDET3D_DATASETS
from mmengine.registry import HOOKS

from ciba_bev.detection.nuscenes import check_data_hook
from ciba_bev.detection.nuscenes.check_data_hook import check_nuscenes_data
from ciba_bev.detection.nuscenes.data_checks import DataError


@pytest.fixture
def damaged(simulated_nuscenes, tmp_path):
    """A copy of the data with a truncated image, a truncated sweep and a missing LiDAR file."""
    root = tmp_path / 'nuscenes'
    shutil.copytree(simulated_nuscenes, root)
    image = sorted((root / 'samples' / 'CAM_BACK').iterdir())[2]
    image.write_bytes(image.read_bytes()[:-100])
    points = sorted((root / 'samples' / 'LIDAR_TOP').iterdir())[3]
    points.unlink()
    sweep = sorted((root / 'sweeps' / 'LIDAR_TOP').iterdir())[1]
    sweep.write_bytes(sweep.read_bytes()[:-3])
    return SimpleNamespace(root=str(root), image=image, points=points, sweep=sweep)


@pytest.mark.parametrize(
    'config', ['nuscenes_lidar', 'nuscenes_camera', 'nuscenes_camera_sequence']
)
def test_whole_data_pass(build_dataset, config):
    check_nuscenes_data(build_dataset(config))


def test_all_damage_is_found(build_dataset, damaged):
    with pytest.raises(DataError) as raised:
        check_nuscenes_data(build_dataset('nuscenes_lidar_camera', data_root=damaged.root))
    for path in (damaged.image, damaged.points, damaged.sweep):
        assert str(path) in str(raised.value)
    assert '3 problems' in str(raised.value)


def test_files_of_unused_sensors_do_not_matter(build_dataset, damaged):
    with pytest.raises(DataError) as raised:
        check_nuscenes_data(build_dataset('nuscenes_camera', data_root=damaged.root))
    assert str(damaged.image) in str(raised.value)
    assert 'LIDAR_TOP' not in str(raised.value)


def test_plain_mmdet3d_datasets_are_checked_too(dataset_config, damaged):
    config = dataset_config('nuscenes_lidar', data_root=damaged.root)
    config.type = 'NuScenesDataset'
    with pytest.raises(DataError, match='LIDAR_TOP'):
        check_nuscenes_data(MMDET3D_DATASETS.build(config))


def runner_with(train=None, val=None):
    loaders = {
        name: None if data is None else SimpleNamespace(dataset=data)
        for name, data in (('train_dataloader', train), ('val_dataloader', val))
    }
    loop = SimpleNamespace(val_begin=1, max_epochs=1)
    return SimpleNamespace(
        cfg={}, train_loop=loop, val_loop=loaders['val_dataloader'], val_evaluator=None, **loaders
    )


def test_the_hook_checks_each_dataset_once(build_dataset, monkeypatch):
    checked = []
    monkeypatch.setattr(
        check_data_hook, 'check_nuscenes_data', lambda dataset, *_: checked.append(dataset)
    )
    train, val = build_dataset('nuscenes_camera'), build_dataset('nuscenes_camera', 'val')
    balanced = MMDET3D_DATASETS.build({'type': 'ConcatDataset', 'datasets': [train, train]})
    hook = HOOKS.build({'type': 'ciba_bev.CheckDataHook'})
    hook.before_train(runner_with(balanced, val))
    hook.before_val(runner_with(balanced, val))
    assert [id(dataset) for dataset in checked] == [id(train), id(val)]


def test_validation_data_are_checked_before_training(build_dataset, damaged):
    train = build_dataset('nuscenes_camera')
    val = build_dataset('nuscenes_camera', 'train', data_root=damaged.root)
    hook = HOOKS.build({'type': 'ciba_bev.CheckDataHook', 'show_progress': False})
    hook.before_train(runner_with(train))
    with pytest.raises(DataError, match=re.escape(damaged.image.name)):
        hook.before_train(runner_with(train, val))
