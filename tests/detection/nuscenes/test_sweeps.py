"""Past sweeps of a vehicle that turns lie where their points are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmdet3d.datasets.transforms import LoadPointsFromMultiSweeps as MMDet3DSweepLoading
from mmdet3d.structures import LiDARPoints
from mmengine.config import Config
from mmengine.registry import TRANSFORMS
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from scipy.spatial.transform import Rotation

from ciba_bev.detection.nuscenes import LoadPointsFromMultiSweeps
from ciba_bev.errors import CibaError

SPEED, TURN_RATE = 10.0, np.radians(25.0)
SWEEPS, SWEEP_INTERVAL = 9, 0.05
# As on the nuScenes cars: ahead of the axle, on the roof, turned by 90 degrees and slightly tilted.
LIDAR2EGO = np.eye(4)
LIDAR2EGO[:3, :3] = Rotation.from_euler('zyx', [-90, 1.5, 0.3], degrees=True).as_matrix()
LIDAR2EGO[:3, 3] = 0.94, 0.0, 1.84
START = 411.0, 1181.0
STATIC_POINTS = np.random.default_rng(0).uniform([366, 1136, -3], [456, 1226, 4], size=(400, 3))


def ego2global(time, turn_rate):
    """Driving round a circle at constant speed, somewhere in the city."""
    heading = 2.0 + turn_rate * time
    # The chord of an arc; np.sinc(x) is sin(pi x) / (pi x).
    chord, direction = SPEED * time * np.sinc(turn_rate * time / 2 / np.pi), (2.0 + heading) / 2
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler('z', heading).as_matrix()
    pose[:2, 3] = START + chord * np.array([np.cos(direction), np.sin(direction)])
    return pose


def lidar2global(time, turn_rate):
    return ego2global(time, turn_rate) @ LIDAR2EGO


def seen_at(time, turn_rate=TURN_RATE):
    """The static points as the LiDAR measures them, with intensity and ring."""
    pose = lidar2global(time, turn_rate)
    points = (STATIC_POINTS - pose[:3, 3]) @ pose[:3, :3]
    return np.concatenate([points, np.full((len(points), 2), 7.0)], axis=1).astype(np.float32)


def sensor2lidar(time, turn_rate=TURN_RATE):
    """From a past sweep to the key sweep, at time 0."""
    return np.linalg.inv(lidar2global(0.0, turn_rate)) @ lidar2global(time, turn_rate)


def lidar2sensor(transform, converter):
    """What mmdet3d's converter wrote for it, float32."""
    matrix = np.eye(4)
    matrix[:3, :3] = transform[:3, :3].T
    if converter == 'rc0 to rc2':
        matrix[:3, 3] = -transform[:3, 3]
    else:
        matrix[:3, 3] = -transform[:3, :3].T @ transform[:3, 3]
    return matrix.astype(np.float32).tolist()


@pytest.fixture
def turning(tmp_path):
    """Makes a sample of a turning car, as one of mmdet3d's converters describes it."""

    def make(converter='rc3 to 1.4', with_poses=True, sweeps=SWEEPS, turn_rate=TURN_RATE):
        def pose(matrix):
            return matrix.astype(np.float32).tolist() if with_poses else None

        results = {
            'timestamp': 0.0,
            'ego2global': pose(ego2global(0.0, turn_rate)),
            'lidar_points': {'lidar2ego': pose(LIDAR2EGO)},
            'points': LiDARPoints(seen_at(0.0, turn_rate), points_dim=5),
        }
        for number in range(sweeps):
            time = -(number + 1) * SWEEP_INTERVAL
            path = tmp_path / f'{number}.bin'
            seen_at(time, turn_rate).tofile(path)
            entry = {
                'timestamp': time,
                'ego2global': pose(ego2global(time, turn_rate)),
                'lidar_points': {
                    'lidar_path': str(path),
                    'lidar2ego': pose(LIDAR2EGO),
                    'lidar2sensor': lidar2sensor(sensor2lidar(time, turn_rate), converter),
                },
            }
            results.setdefault('lidar_sweeps', []).append(entry)
        return results

    return make


def displacements(points):
    """How far each point of each sweep lies from the key sweep's, (1 + sweeps, N) metres."""
    sweeps = points.tensor[:, :3].double().numpy().reshape(-1, len(STATIC_POINTS), 3)
    return np.linalg.norm(sweeps - seen_at(0.0)[:, :3], axis=-1)


@pytest.mark.parametrize(
    ('converter', 'with_poses'),
    [('rc0 to rc2', True), ('rc3 to 1.4', True), ('rc3 to 1.4', False)],
)
def test_static_points_stay_within_a_centimetre(turning, converter, with_poses):
    transform = LoadPointsFromMultiSweeps(sweeps_num=SWEEPS, use_dim=5, test_mode=True)
    found = displacements(transform(turning(converter, with_poses))['points'])
    assert found.shape[0] == 1 + SWEEPS
    assert found.max() < 0.01


def test_how_far_off_mmdet3d_is(turning):
    """The figures of docs/nuscenes.md. R^T t for t: a chord of 2 |t| sin(angle / 2)."""
    transform = MMDet3DSweepLoading(sweeps_num=SWEEPS, use_dim=[0, 1, 2, 3, 4], test_mode=True)
    found = displacements(transform(turning())['points']).mean(axis=1)
    for number, displacement in enumerate(found[1:], 1):
        time = -number * SWEEP_INTERVAL
        shift = np.linalg.norm(sensor2lidar(time)[:3, 3])
        expected = 2 * shift * abs(np.sin(TURN_RATE * time / 2))
        assert displacement == pytest.approx(expected, abs=0.01)
    print(f'mmdet3d, oldest of {SWEEPS} sweeps: {found[-1]:.2f} m; mean: {found[1:].mean():.2f} m')
    assert found[-1] == pytest.approx(0.9, abs=0.05)
    assert found[1:].mean() == pytest.approx(0.35, abs=0.03)


@pytest.mark.parametrize('config', ['nuscenes_lidar', 'nuscenes_lidar_camera'])
def test_agrees_with_the_devkit(build_dataset, simulated_nuscenes, config):
    """The simulated car follows bends; the devkit reads the tables and not the info files."""
    devkit = NuScenes('v1.0-mini', str(simulated_nuscenes), verbose=False)
    dataset = build_dataset(config, test_mode=True, pipeline=[])
    load_key = TRANSFORMS.build(
        dict(type='mmdet3d.LoadPointsFromFile', coord_type='LIDAR', load_dim=5, use_dim=5)
    )
    arguments = dict(sweeps_num=9, use_dim=[0, 1, 2, 3, 4], remove_close=True, test_mode=True)
    ours, theirs = LoadPointsFromMultiSweeps(**arguments), MMDet3DSweepLoading(**arguments)
    most = 0.0
    for index in range(1, len(dataset)):
        info = dataset.get_data_info(index)
        sample = devkit.get('sample', info['token'])
        expected, lags = LidarPointCloud.from_file_multisweep(
            devkit, sample, 'LIDAR_TOP', 'LIDAR_TOP', nsweeps=10
        )
        key_lags = int((lags == 0).sum())
        found = ours(load_key(dataset.get_data_info(index)))['points'].tensor.numpy()
        # The devkit thins out the key sweep, too.
        found = found[found[:, 4] > 0]
        np.testing.assert_allclose(found[:, :3], expected.points[:3, key_lags:].T, atol=2e-3)
        np.testing.assert_allclose(found[:, 4], lags[0, key_lags:], atol=1e-3)
        wrong = theirs(load_key(dataset.get_data_info(index)))['points'].tensor.numpy()
        most = max(most, np.abs(wrong[wrong[:, 4] > 0] - found)[:, :3].max())
    assert most > 0.05, 'the simulated car does not turn enough to tell the two apart'


@pytest.mark.parametrize('remove_close', [False, True])
@pytest.mark.parametrize('sweeps', [0, 3, 9])
@pytest.mark.parametrize('test_mode', [False, True])
def test_on_a_straight_road_all_is_as_in_mmdet3d(turning, sweeps, remove_close, test_mode):
    arguments = dict(
        sweeps_num=5,
        use_dim=[0, 1, 2, 4],
        pad_empty_sweeps=True,
        remove_close=remove_close,
        test_mode=test_mode,
    )
    np.random.seed(3)
    ours = LoadPointsFromMultiSweeps(**arguments)(turning(sweeps=sweeps, turn_rate=0.0))['points']
    np.random.seed(3)
    theirs = MMDet3DSweepLoading(**arguments)(turning(sweeps=sweeps, turn_rate=0.0))['points']
    assert ours.tensor.shape == theirs.tensor.shape
    np.testing.assert_allclose(ours.tensor, theirs.tensor, atol=1e-3)


def test_an_empty_list_of_sweeps_is_padded(turning):
    results = turning(sweeps=0)
    results['lidar_sweeps'] = []
    transform = LoadPointsFromMultiSweeps(sweeps_num=4, use_dim=5, pad_empty_sweeps=True)
    assert len(transform(results)['points']) == 5 * len(STATIC_POINTS)


def test_points_without_room_for_the_time_lag_are_refused(turning):
    with pytest.raises(CibaError, match='fifth feature'):
        LoadPointsFromMultiSweeps(load_dim=4, use_dim=4)
    results = turning()
    results['points'] = LiDARPoints(seen_at(0.0)[:, :4], points_dim=4)
    with pytest.raises(CibaError, match='use_dim=5'):
        LoadPointsFromMultiSweeps(use_dim=5)(results)


CONFIGS = Path(__file__).resolve().parents[3] / 'configs'


def loading_steps(tree):
    if isinstance(tree, dict):
        if str(tree.get('type', '')).endswith('LoadPointsFromMultiSweeps'):
            yield tree['type']
        tree = list(tree.values())
    if isinstance(tree, (list, tuple)):
        for branch in tree:
            yield from loading_steps(branch)


def test_every_config_loads_sweeps_with_it():
    found = set()
    for path in sorted(CONFIGS.glob('*.py')):
        found.update(loading_steps(Config.fromfile(path).to_dict()))
    assert found == {'ciba_bev.LoadPointsFromMultiSweeps'}
