import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from mmdet3d.registry import DATASETS as MMDET3D_DATASETS
from mmengine.registry import HOOKS

from ciba_bev.detection.nuscenes import check_data_hook, object_counts
from ciba_bev.detection.nuscenes.check_data_hook import check_nuscenes_data
from ciba_bev.detection.nuscenes.data_checks import DataError
from ciba_bev.detection.nuscenes.info_files import load_info_file, save_info_file


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


@pytest.fixture
def changed_infos(simulated_nuscenes, tmp_path):
    """Writes a copy of the training infos, each of them changed, and gives its path."""

    def write(change):
        content = load_info_file(simulated_nuscenes / 'nuscenes_infos_train.pkl')
        for info in content['data_list']:
            change(info)
        path = tmp_path / f'{change.__name__}_infos_train.pkl'
        save_info_file(content, path)
        return str(path)

    return write


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


def spoil(path, change):
    """Rewrites a LiDAR file with its points changed."""
    points = np.fromfile(path, np.float32).reshape(-1, 5)
    change(points).astype(np.float32).tofile(path)


def test_contents_of_a_sample_of_files_are_read(build_dataset, simulated_nuscenes, tmp_path):
    root = tmp_path / 'nuscenes'
    shutil.copytree(simulated_nuscenes, root)
    for path in (root / 'samples' / 'LIDAR_TOP').iterdir():
        spoil(path, lambda points: points[: len(points) // 5 * 5, :4])
    dataset = build_dataset('nuscenes_lidar', data_root=str(root))
    with pytest.raises(DataError, match='seem to have 4 numbers each, not the 5'):
        check_nuscenes_data(dataset, read_files=1)
    check_nuscenes_data(dataset, read_files=0)


@pytest.mark.parametrize('read_files', [5, -1])
def test_every_file_can_be_read(build_dataset, simulated_nuscenes, tmp_path, read_files):
    root = tmp_path / 'nuscenes'
    shutil.copytree(simulated_nuscenes, root)
    # The last of the frames' files, which a small sample may leave out.
    last = sorted((root / 'samples' / 'CAM_BACK').iterdir())[6]
    encoded = bytearray(last.read_bytes())
    encoded[30:300] = bytes(270)
    last.write_bytes(encoded)
    dataset = build_dataset('nuscenes_camera', data_root=str(root))
    if read_files < 0:
        with pytest.raises(DataError, match=re.escape(f'{last}: the image is damaged')):
            check_nuscenes_data(dataset, read_files=read_files)
    else:
        check_nuscenes_data(dataset, read_files=read_files)


def test_images_of_another_size_than_calibrated_are_found(build_dataset, changed_infos):
    def enlarge(info):
        for image in info['images'].values():
            image['cam2img'][0][2] *= 2
            image['cam2img'][1][2] *= 2

    dataset = build_dataset('nuscenes_camera', ann_file=changed_infos(enlarge))
    with pytest.raises(DataError, match=r'96 x 54 pixels.*\(cam2img\).*about 19\d x 11\d'):
        check_nuscenes_data(dataset)
    check_nuscenes_data(dataset, max_center_offset=None)


def test_the_number_of_cameras_is_compared_with_the_models(build_dataset, changed_infos):
    def drop_back(info):
        del info['images']['CAM_BACK']

    whole = build_dataset('nuscenes_camera')
    check_nuscenes_data(whole, num_cameras=6)
    dataset = build_dataset('nuscenes_camera', ann_file=changed_infos(drop_back))
    check_nuscenes_data(dataset, num_cameras=5)
    with pytest.raises(DataError, match=r'5 cameras \(CAM_FRONT, .*expects 6 \(num_cams\)'):
        check_nuscenes_data(dataset, num_cameras=6)
    hook = HOOKS.build({'type': 'ciba_bev.CheckDataHook', 'show_progress': False})
    runner = runner_with(whole)
    runner.cfg = {'model': {'student': [{'head': {'num_cams': 4}}]}}
    with pytest.raises(DataError, match='expects 4'):
        hook.before_train(runner)


def test_the_pipelines_load_dim_is_compared_with_the_info_files(build_dataset, changed_infos):
    def four(info):
        info['lidar_points']['num_pts_feats'] = 4

    dataset = build_dataset('nuscenes_lidar', ann_file=changed_infos(four))
    with pytest.raises(DataError, match=r'it is 4, but LoadPointsFromFile .*load_dim=5') as caught:
        check_nuscenes_data(dataset, read_files=0)
    # Of seven frames alike one is named.
    assert str(caught.value).count('load_dim=5') == 1


def test_training_without_objects_is_refused_with_the_cause(build_dataset, changed_infos):
    def unlabelled(info):
        info['instances'] = []

    def behind(info):
        for instance in info['instances']:
            instance['bbox_3d'][0] = -60.0

    message = r'none of the 7 training frames has a usable object of the classes car, truck'
    for change, cause in ((unlabelled, message), (behind, 'within the range of ObjectRangeFilter')):
        infos = changed_infos(change)
        with pytest.raises(DataError, match=cause):
            check_nuscenes_data(build_dataset('nuscenes_camera', ann_file=infos))
        # Empty frames may be tested on, or kept on purpose.
        check_nuscenes_data(build_dataset('nuscenes_camera', 'val', ann_file=infos))
        check_nuscenes_data(build_dataset('nuscenes_camera', ann_file=infos, filter_empty_gt=False))


def test_how_many_frames_have_objects_is_said(build_dataset, changed_infos, monkeypatch):
    frames = []

    def leave_one(info):
        frames.append(info)
        info['instances'] = [
            instance
            for instance in info['instances']
            if len(frames) == 3 and instance['bbox_label_3d'] != 0
        ]

    said = []
    monkeypatch.setattr(object_counts, 'print_log', lambda text, **_: said.append(text))
    check_nuscenes_data(build_dataset('nuscenes_camera', ann_file=changed_infos(leave_one)))
    assert said[0].startswith('1 of 7 training frames have an object')
    assert re.search(r'No training frame has an object of: car\b', said[1])


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
