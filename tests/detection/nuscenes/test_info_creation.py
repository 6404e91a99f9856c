import json
import shutil

import numpy as np
import pytest
from mmdet3d.datasets import NuScenesDataset
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.splits import mini_train, mini_val

from ciba_bev.detection.nuscenes.data_checks import TEMPORAL_FIELDS, DataError
from ciba_bev.detection.nuscenes.info_creation import annotate_info_files, create_info_files
from ciba_bev.detection.nuscenes.info_files import load_info_file, save_info_file

SPLITS = {'train': mini_train, 'val': mini_val}


@pytest.fixture(scope='module')
def devkit(simulated_nuscenes):
    return NuScenes('v1.0-mini', str(simulated_nuscenes), verbose=False)


@pytest.fixture
def tables_only(simulated_nuscenes, tmp_path):
    shutil.copytree(simulated_nuscenes / 'v1.0-mini', tmp_path / 'v1.0-mini')
    shutil.copytree(simulated_nuscenes / 'maps', tmp_path / 'maps')
    return tmp_path


def infos(root, split):
    return load_info_file(root / f'nuscenes_infos_{split}.pkl')['data_list']


def without_temporal_fields(content):
    stripped = [
        {key: value for key, value in info.items() if key not in TEMPORAL_FIELDS}
        for info in content['data_list']
    ]
    return {'metainfo': content['metainfo'], 'data_list': stripped}


@pytest.mark.parametrize('split', ['train', 'val'])
def test_each_split_has_its_scenes_samples(simulated_nuscenes, devkit, split):
    expected = {
        sample['token']
        for sample in devkit.sample
        if devkit.get('scene', sample['scene_token'])['name'] in SPLITS[split]
    }
    assert {info['token'] for info in infos(simulated_nuscenes, split)} == expected


@pytest.mark.parametrize('split', ['train', 'val'])
def test_added_fields_agree_with_the_tables(simulated_nuscenes, devkit, split):
    for info in infos(simulated_nuscenes, split):
        sample = devkit.get('sample', info['token'])
        for field in ('scene_token', 'prev', 'next'):
            assert info[field] == sample[field]
        steps, token = 0, info['prev']
        while token:
            steps, token = steps + 1, devkit.get('sample', token)['prev']
        assert info['frame_idx'] == steps
        lidar = devkit.get('sample_data', sample['data']['LIDAR_TOP'])
        pose = devkit.get('ego_pose', lidar['ego_pose_token'])
        assert info['can_bus'][:3] == pose['translation']
        assert info['can_bus'][3:7] == pose['rotation']
        # float32 in mmdet3d's fields
        np.testing.assert_allclose(
            np.array(info['ego2global'])[:3, 3], pose['translation'], rtol=1e-6, atol=1e-4
        )


def test_motion_is_from_the_can_bus_expansion(simulated_nuscenes, devkit):
    info = infos(simulated_nuscenes, 'train')[3]
    file = simulated_nuscenes / 'can_bus' / 'scene-0061_pose.json'
    time = devkit.get('sample', info['token'])['timestamp']
    message = [m for m in json.loads(file.read_text()) if m['utime'] <= time][-1]
    expected = [*message['accel'], *message['rotation_rate'], *message['vel']]
    np.testing.assert_array_equal(info['can_bus'][7:16], expected)
    assert np.linalg.norm(message['vel']) > 0


def test_plain_mmdet3d_reads_the_files(simulated_nuscenes):
    dataset = NuScenesDataset(
        data_root=str(simulated_nuscenes),
        ann_file='nuscenes_infos_train.pkl',
        data_prefix={'pts': 'samples/LIDAR_TOP', 'sweeps': 'sweeps/LIDAR_TOP', 'img': ''},
        filter_empty_gt=False,
    )
    assert len(dataset) == 7
    assert len(dataset[2]['ann_info']['gt_labels_3d']) > 0


def test_completing_gives_what_creating_gave(simulated_nuscenes, tables_only):
    for split in SPLITS:
        content = load_info_file(simulated_nuscenes / f'nuscenes_infos_{split}.pkl')
        save_info_file(
            without_temporal_fields(content), tables_only / f'nuscenes_infos_{split}.pkl'
        )
    messages = []
    annotate_info_files(tables_only, 'v1.0-mini', can_bus=simulated_nuscenes, log=messages.append)
    for split in SPLITS:
        # Velocities may be NaN, which is equal to NaN here.
        np.testing.assert_equal(infos(tables_only, split), infos(simulated_nuscenes, split))
    assert any('can_bus' in message for message in messages)


def test_without_the_expansion_only_the_motion_is_missing(simulated_nuscenes, tables_only):
    shutil.copy(simulated_nuscenes / 'nuscenes_infos_train.pkl', tables_only)
    messages = []
    annotate_info_files(tables_only, 'v1.0-mini', log=messages.append)
    with_motion = np.array([info['can_bus'] for info in infos(simulated_nuscenes, 'train')])
    without = np.array([info['can_bus'] for info in infos(tables_only, 'train')])
    np.testing.assert_array_equal(without[:, 7:16], 0)
    np.testing.assert_array_equal(
        np.delete(without, slice(7, 16), 1), np.delete(with_motion, slice(7, 16), 1)
    )
    assert any('No CAN bus expansion' in message for message in messages)


def test_nothing_but_the_info_files_is_left_behind(simulated_nuscenes, tmp_path):
    before = sorted(simulated_nuscenes.iterdir())
    create_info_files(simulated_nuscenes, 'v1.0-mini', out_dir=tmp_path / 'out', tag='tiny')
    assert sorted(simulated_nuscenes.iterdir()) == before
    names = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert names == ['tiny_infos_train.pkl', 'tiny_infos_val.pkl']


def test_sweeps_are_told_from_key_frames_wherever_the_root_is(simulated_nuscenes, tmp_path):
    root = tmp_path / 'samples of mine'
    root.symlink_to(simulated_nuscenes, target_is_directory=True)
    create_info_files(root, 'v1.0-mini', out_dir=tmp_path / 'out')
    folders = {
        sweep['lidar_points']['lidar_path'].split('/')[0]
        for info in infos(tmp_path / 'out', 'train')
        for sweep in info.get('lidar_sweeps', [])
    }
    assert folders == {'samples', 'sweeps'}


def test_missing_tables_are_named(tmp_path):
    with pytest.raises(DataError, match=r'sample\.json.*--root-path'):
        create_info_files(tmp_path, 'v1.0-mini')


def test_missing_sensor_files_are_named(tables_only):
    with pytest.raises(DataError, match=r'LIDAR_TOP.*Unpack'):
        create_info_files(tables_only, 'v1.0-mini')
    assert not list(tables_only.glob('*.pkl'))


def test_a_split_without_scenes_is_named(tables_only):
    table = tables_only / 'v1.0-mini' / 'scene.json'
    table.write_text(json.dumps([{'name': 'scene-0061'}]))
    with pytest.raises(DataError, match='val split'):
        create_info_files(tables_only, 'v1.0-mini')
    table.write_text(json.dumps([{'name': 'scene-9999'}]))
    with pytest.raises(DataError, match='scene-9999'):
        create_info_files(tables_only, 'v1.0-mini')


def test_completing_needs_files_of_the_same_data(simulated_nuscenes, tables_only):
    with pytest.raises(DataError, match=r'nuscenes_infos_train\.pkl'):
        annotate_info_files(tables_only, 'v1.0-mini')
    path = tables_only / 'nuscenes_infos_train.pkl'
    content = load_info_file(simulated_nuscenes / path.name)
    save_info_file({**content, 'metainfo': {'version': 'v1.0-trainval'}}, path)
    with pytest.raises(DataError, match=r'Give --version v1\.0-trainval'):
        annotate_info_files(tables_only, 'v1.0-mini')
    content['data_list'][1]['token'] = 'unknown'
    save_info_file(content, path)
    untouched = path.read_bytes()
    with pytest.raises(DataError, match='sample unknown'):
        annotate_info_files(tables_only, 'v1.0-mini')
    assert path.read_bytes() == untouched
