import json
import shutil

import numpy as np
import pytest
from mmdet3d.datasets import NuScenesDataset
from nuscenes.nuscenes import NuScenes
from nuscenes.utils import splits
from nuscenes.utils.splits import mini_train, mini_val

from ciba_bev.detection.nuscenes.data_checks import TEMPORAL_FIELDS, DataError
from ciba_bev.detection.nuscenes.info_creation import annotate_info_files, create_info_files
from ciba_bev.detection.nuscenes.info_files import load_info_file, save_info_file
from ciba_bev.errors import CibaError

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


@pytest.fixture
def unannotated(simulated_nuscenes, tmp_path):
    """The simulated recordings as a test set: other scene names, no annotations."""
    root = tmp_path / 'nuscenes'
    root.mkdir()
    for name in ('samples', 'sweeps', 'maps', 'can_bus'):
        (root / name).symlink_to(simulated_nuscenes / name, target_is_directory=True)
    tables = root / 'v1.0-test'
    shutil.copytree(simulated_nuscenes / 'v1.0-mini', tables)
    scenes = json.loads((tables / 'scene.json').read_text())
    for scene, name in zip(scenes, splits.test):
        scene['name'] = name
    (tables / 'scene.json').write_text(json.dumps(scenes))
    for name in ('sample_annotation', 'instance'):
        (tables / f'{name}.json').write_text('[]')
    return root


def test_the_test_set_has_no_annotations(unannotated, simulated_nuscenes, build_dataset):
    files = create_info_files(unannotated, 'v1.0-test')
    assert files == {'test': unannotated / 'nuscenes_infos_test.pkl'}
    content = load_info_file(files['test'])
    assert content['metainfo']['version'] == 'v1.0-test'
    found = content['data_list']
    annotated = [info for split in SPLITS for info in infos(simulated_nuscenes, split)]
    assert len(found) == len(annotated)
    of_token = {info['token']: info for info in annotated}
    for info in found:
        assert info['instances'] == []
        same = of_token[info['token']]
        # The scenes got names without CAN bus messages.
        assert info['can_bus'][:7] == same['can_bus'][:7]
        for field in ('scene_token', 'prev', 'next', 'frame_idx', 'images', 'ego2global'):
            assert info[field] == same[field], field
        assert info.get('lidar_sweeps') == same.get('lidar_sweeps')
    dataset = build_dataset(
        'nuscenes_camera_sequence',
        'test',
        data_root=str(unannotated),
        ann_file='nuscenes_infos_test.pkl',
    )
    assert len(dataset) == len(found)
    assert dataset.metainfo['version'] == 'v1.0-test'
    assert dataset[3]['inputs']['img'].shape == (6, 3, 54, 96)


def test_the_test_set_can_be_completed(unannotated, build_dataset):
    path = create_info_files(unannotated, 'v1.0-test')['test']
    content = load_info_file(path)
    save_info_file(without_temporal_fields(content), path)
    with pytest.raises(DataError, match=r'--version v1\.0-test --annotate-only'):
        build_dataset(
            'nuscenes_camera_sequence', 'test', data_root=str(unannotated), ann_file=path.name
        )
    annotate_info_files(unannotated, 'v1.0-test')
    np.testing.assert_equal(load_info_file(path), content)


@pytest.fixture(scope='module')
def full_set(simulated_nuscenes, tmp_path_factory):
    root = tmp_path_factory.mktemp('full')
    for path in simulated_nuscenes.iterdir():
        if path.suffix != '.pkl':
            (root / path.name).symlink_to(path, target_is_directory=True)
    (root / 'v1.0-trainval').symlink_to(simulated_nuscenes / 'v1.0-mini', target_is_directory=True)
    create_info_files(root, 'v1.0-trainval')
    return root


@pytest.fixture
def both_versions(full_set, tmp_path):
    """Mini set and full set in one folder, with info files of the full one."""
    return shutil.copytree(full_set, tmp_path / 'nuscenes', symlinks=True)


def test_info_files_of_another_version_are_not_replaced_unasked(both_versions):
    path = both_versions / 'nuscenes_infos_train.pkl'
    before = path.read_bytes()
    with pytest.raises(DataError) as raised:
        create_info_files(both_versions, 'v1.0-mini')
    for part in (str(path), 'v1.0-trainval', '--extra-tag', '--replace'):
        assert part in str(raised.value)
    assert path.read_bytes() == before
    create_info_files(both_versions, 'v1.0-mini', tag='mini')
    assert path.read_bytes() == before
    # The same version is replaced, as after a change of --max-sweeps.
    create_info_files(both_versions, 'v1.0-trainval', max_sweeps=1)
    create_info_files(both_versions, 'v1.0-mini', replace=True)
    assert load_info_file(path)['metainfo']['version'] == 'v1.0-mini'


def test_files_of_other_formats_are_not_replaced_and_damaged_ones_are(both_versions):
    path = both_versions / 'nuscenes_infos_val.pkl'
    save_info_file({'infos': [], 'metadata': {'version': 'v1.0-trainval'}}, path)
    with pytest.raises(DataError, match=r'another format.*--replace'):
        create_info_files(both_versions, 'v1.0-trainval')
    path.write_bytes(path.read_bytes()[:20])
    create_info_files(both_versions, 'v1.0-trainval')
    assert len(infos(both_versions, 'val')) == 7


def with_table(root, name, change):
    path = root / 'v1.0-mini' / f'{name}.json'
    path.write_text(change(path.read_text()))


def cut(text):
    return text[: len(text) // 2]


def without_rear_cameras(root):
    tables = {
        name: json.loads((root / 'v1.0-mini' / f'{name}.json').read_text())
        for name in ('sensor', 'calibrated_sensor', 'sample_data')
    }
    channel = {sensor['token']: sensor['channel'] for sensor in tables['sensor']}
    of = {r['token']: channel[r['sensor_token']] for r in tables['calibrated_sensor']}
    kept = [
        record
        for record in tables['sample_data']
        if not of[record['calibrated_sensor_token']].startswith('CAM_BACK')
    ]
    with_table(root, 'sample_data', lambda _: json.dumps(kept))


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (without_rear_cameras, r'no CAM_BACK, CAM_BACK_LEFT, CAM_BACK_RIGHT'),
        (lambda root: with_table(root, 'sample_data', cut), r'sample_data\.json.*truncated'),
        (lambda root: with_table(root, 'scene', cut), r'scene\.json.*truncated'),
        (lambda root: with_table(root, 'category', cut), r'category\.json.*truncated'),
        (lambda root: with_table(root, 'ego_pose', lambda _: '{}'), r'ego_pose\.json.*not a list'),
        (lambda root: with_table(root, 'ego_pose', lambda _: '[]'), r'KeyError.*metadata archive'),
        (lambda root: shutil.rmtree(root / 'maps'), r'maps.*v1\.0-trainval_meta\.tgz'),
        (lambda root: (root / 'v1.0-mini' / 'visibility.json').unlink(), r'visibility\.json'),
    ],
)
def test_what_devkit_and_converter_stumble_over_is_named(
    simulated_nuscenes, tables_only, damage, message
):
    (tables_only / 'samples').symlink_to(simulated_nuscenes / 'samples', target_is_directory=True)
    damage(tables_only)
    with pytest.raises(DataError, match=message) as raised:
        create_info_files(tables_only, 'v1.0-mini', log=lambda _: None)
    assert '\n' not in str(raised.value)
    shutil.copy(tables_only / 'v1.0-mini' / 'log.json', tables_only / 'nuscenes_infos_val.pkl')
    with pytest.raises(DataError):
        annotate_info_files(tables_only, 'v1.0-mini', log=lambda _: None)


def test_damaged_can_bus_messages_are_named(simulated_nuscenes, tables_only):
    shutil.copy(simulated_nuscenes / 'nuscenes_infos_train.pkl', tables_only)
    shutil.copytree(simulated_nuscenes / 'can_bus', tables_only / 'can_bus')
    file = tables_only / 'can_bus' / 'scene-0061_pose.json'
    file.write_text(cut(file.read_text()))
    with pytest.raises(DataError, match=r'scene-0061_pose\.json.*can_bus\.zip'):
        annotate_info_files(tables_only, 'v1.0-mini', log=lambda _: None)


def test_a_folder_that_cannot_be_written_to_is_named(simulated_nuscenes, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(CibaError, match=r'file/out: cannot be written.*choose another folder'):
        create_info_files(simulated_nuscenes, 'v1.0-mini', out_dir=tmp_path / 'file' / 'out')


def test_remedies_know_where_the_data_are(simulated_nuscenes, tmp_path, build_dataset):
    """Info files may lie elsewhere than the data, on a disk that can be written to."""
    create_info_files(simulated_nuscenes, 'v1.0-mini', out_dir=tmp_path / 'info files')
    path = tmp_path / 'info files' / 'nuscenes_infos_train.pkl'
    save_info_file(without_temporal_fields(load_info_file(path)), path)
    with pytest.raises(DataError) as raised:
        build_dataset('nuscenes_camera_sequence', ann_file=str(path))
    command = (
        f'python tools/create_data.py --root-path {simulated_nuscenes} --version v1.0-mini '
        f"--out-dir '{tmp_path}/info files' --annotate-only"
    )
    assert command in str(raised.value)
    annotate_info_files(simulated_nuscenes, 'v1.0-mini', out_dir=path.parent)
    build_dataset('nuscenes_camera_sequence', ann_file=str(path))
    path.unlink()
    with pytest.raises(DataError, match=r"--out-dir '.*/info files'"):
        build_dataset('nuscenes_camera_sequence', ann_file=str(path))
