"""Cameras whose matrix contradicts the poses are found, and no others."""

from __future__ import annotations

import copy
import re
import shutil

import numpy as np
import pytest
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS

from ciba_bev.detection.nuscenes.calibration import find_inconsistent_cameras
from ciba_bev.detection.nuscenes.data_checks import DataError
from ciba_bev.detection.nuscenes.info_creation import annotate_info_files
from ciba_bev.detection.nuscenes.info_files import load_info_file, save_info_file


def as_release_candidate(info):
    """What mmdet3d 1.1.0rc0 to rc2 wrote: [R^T | -t], float32, R and t from camera to LiDAR."""
    info = copy.deepcopy(info)
    for image in info['images'].values():
        matrix = np.array(image['lidar2cam'])
        cam2lidar = np.linalg.inv(matrix)
        matrix[:3, 3] = -cam2lidar[:3, 3]
        image['lidar2cam'] = matrix.astype(np.float32).tolist()
    return info


@pytest.fixture
def infos(simulated_nuscenes):
    return load_info_file(simulated_nuscenes / 'nuscenes_infos_train.pkl')['data_list']


def without_sweeps(info):
    return {key: value for key, value in info.items() if key != 'lidar_sweeps'}


@pytest.mark.parametrize('change', [lambda info: info, without_sweeps])
def test_matrices_of_todays_converter_pass(infos, change):
    for info in infos:
        assert find_inconsistent_cameras(change(info)) == []


@pytest.mark.parametrize('change', [lambda info: info, without_sweeps])
def test_matrices_of_the_release_candidates_are_found(infos, change):
    for info in infos:
        found = find_inconsistent_cameras(change(as_release_candidate(info)))
        assert {wrong.camera for wrong in found} == set(info['images'])
        assert all('1.1.0rc0 to rc2' in wrong.finding for wrong in found)


def test_a_real_key_frame(real_frame):
    """Its cameras recorded up to 43 ms before the LiDAR, and no past sweep says how it drove."""
    (path,) = real_frame.glob('*.pkl')
    (info,) = load_info_file(path)['data_list']
    assert find_inconsistent_cameras(info) == []
    # The camera behind to the left recorded half a millisecond before: motion is no excuse.
    assert 'CAM_BACK_LEFT' in {
        wrong.camera for wrong in find_inconsistent_cameras(as_release_candidate(info))
    }


@pytest.mark.parametrize(
    ('damage', 'finding'),
    [
        (lambda matrix: matrix[0].__setitem__(3, matrix[0][3] + 0.5), r'0\.50 m and 0\.0'),
        (lambda matrix: matrix[0].__setitem__(3, float('nan')), 'nan m'),
        (lambda matrix: matrix.insert(0, matrix.pop(1)), 'degrees'),
    ],
)
def test_other_contradictions_are_measured(infos, damage, finding):
    damage(infos[2]['images']['CAM_BACK']['lidar2cam'])
    ((camera, text),) = find_inconsistent_cameras(infos[2])
    assert camera == 'CAM_BACK'
    assert re.search(finding, text)
    assert 'rc0' not in text


def moving(info, speed, turn_rate, camera_delay):
    """The same frame on a vehicle that drives on a circle, its cameras that much later."""
    info = copy.deepcopy(info)

    def pose(time):
        heading = turn_rate * time
        matrix = np.eye(4)
        matrix[:2, :2] = [[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]]
        chord = speed * time * np.sinc(heading / 2 / np.pi)
        matrix[:2, 3] = 400 + chord * np.cos(heading / 2), 1100 + chord * np.sin(heading / 2)
        return matrix

    info['timestamp'] = 1000.0
    info['ego2global'] = pose(0.0)
    info['lidar_sweeps'] = [{'timestamp': 999.95, 'ego2global': pose(-0.05)}]
    for image in info['images'].values():
        image['timestamp'] = 1000.0 + camera_delay
        cam2global = pose(camera_delay) @ image['cam2ego']
        lidar2global = info['ego2global'] @ info['lidar_points']['lidar2ego']
        image['lidar2cam'] = np.linalg.inv(cam2global) @ lidar2global
    return info


@pytest.mark.parametrize('delay', [-0.045, -0.01, 0.0, 0.02])
@pytest.mark.parametrize('with_sweeps', [True, False])
def test_motion_between_lidar_and_camera_is_no_contradiction(infos, delay, with_sweeps):
    info = moving(infos[1], 15.0, np.radians(25), delay)
    if with_sweeps:
        assert {
            wrong.camera for wrong in find_inconsistent_cameras(as_release_candidate(info))
        } == set(info['images'])
    else:
        info = without_sweeps(info)
    assert find_inconsistent_cameras(info) == []


def test_infos_without_camera_poses_are_not_judged(infos):
    info = as_release_candidate(infos[0])
    for image in info['images'].values():
        del image['cam2ego']
    assert find_inconsistent_cameras(info) == []


@pytest.fixture
def release_candidate_root(simulated_nuscenes, tmp_path):
    """A data root whose info files are as mmdet3d 1.1.0rc2 would have written them."""
    root = tmp_path / 'nuscenes'
    shutil.copytree(simulated_nuscenes, root)
    for split in ('train', 'val'):
        path = root / f'nuscenes_infos_{split}.pkl'
        content = load_info_file(path)
        content['data_list'] = [as_release_candidate(info) for info in content['data_list']]
        save_info_file(content, path)
    return root


def test_completing_refuses_them(release_candidate_root):
    path = release_candidate_root / 'nuscenes_infos_train.pkl'
    untouched = path.read_bytes()
    with pytest.raises(DataError) as raised:
        annotate_info_files(release_candidate_root, 'v1.0-mini', log=lambda _: None)
    message = str(raised.value)
    assert 'lidar2cam' in message
    assert f'create_data.py --root-path {release_candidate_root} --version v1.0-mini' in message
    assert '--annotate-only' not in message
    assert path.read_bytes() == untouched


def test_training_refuses_them_before_its_first_step(
    dataset_config, release_candidate_root, build_dataset
):
    root = str(release_candidate_root)
    with pytest.raises(DataError, match=r'lidar2cam.*create_data\.py'):
        build_dataset('nuscenes_camera', data_root=root)
    # The teacher looks at no camera.
    build_dataset('nuscenes_lidar', data_root=root)
    # mmdet3d's own data set does not look; the hook does.
    config = dataset_config('nuscenes_camera', data_root=root)
    config.type = 'mmdet3d.NuScenesDataset'
    plain = MMENGINE_DATASETS.build(config)
    hook = HOOKS.build({'type': 'ciba_bev.CheckDataHook', 'show_progress': False})
    with pytest.raises(DataError, match=r'lidar2cam.*create_data\.py'):
        hook._check(plain)
