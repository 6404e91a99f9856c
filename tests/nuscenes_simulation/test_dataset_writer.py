"""The written data set, read by the tools it is written for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import pickle
import resource
import runpy
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.can_bus.can_bus_api import NuScenesCanBus
from nuscenes.eval.detection.config import config_factory
from nuscenes.eval.detection.evaluate import NuScenesEval
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import points_in_box
from pyquaternion import Quaternion

from nuscenes_simulation import SimulationSettings, resolve_scene_names, simulate_nuscenes
from nuscenes_simulation.errors import SimulationError
from nuscenes_simulation.object_shapes import CLASS_NAMES

SCENES = ['scene-0061', 'scene-0103', 'scene-0916']
TINY = SimulationSettings(
    frames_per_scene=4,
    image_width=64,
    image_height=36,
    lidar_azimuth_steps=180,
    sweeps_per_keyframe=1,
    can_bus=True,
)
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def data_root(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = tmp_path_factory.mktemp('simulation') / 'nuscenes'
    return simulate_nuscenes(root, SCENES, 0, TINY)


@pytest.fixture(scope='module')
def nusc(data_root: pathlib.Path) -> NuScenes:
    return NuScenes(version='v1.0-mini', dataroot=str(data_root), verbose=False)


def hash_of_files(root: pathlib.Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


def test_devkit_walks_through_every_chain(nusc: NuScenes):
    assert [scene['name'] for scene in nusc.scene] == SCENES
    for scene in nusc.scene:
        token, count = scene['first_sample_token'], 0
        while token:
            sample = nusc.get('sample', token)
            assert len(sample['data']) == 7
            for sensor_token in sample['data'].values():
                path, _, _ = nusc.get_sample_data(sensor_token)
                assert pathlib.Path(path).is_file()
            last, token, count = token, sample['next'], count + 1
        assert (count, last) == (scene['nbr_samples'], scene['last_sample_token'])
        first = nusc.get('sample', scene['first_sample_token'])['data']['LIDAR_TOP']
        sweeps = [nusc.get('sample_data', first)]
        while sweeps[-1]['next']:
            sweeps.append(nusc.get('sample_data', sweeps[-1]['next']))
        assert [sweep['is_key_frame'] for sweep in sweeps] == [True, *[False, True] * 3]
        assert (np.diff([sweep['timestamp'] for sweep in sweeps]) == 250_000).all()
    for instance in nusc.instance:
        token, count = instance['first_annotation_token'], 0
        while token:
            annotation = nusc.get('sample_annotation', token)
            assert annotation['instance_token'] == instance['token']
            token, count = annotation['next'], count + 1
        assert count == instance['nbr_annotations']


def test_point_counts_are_those_of_the_lidar_file(nusc: NuScenes):
    sample = nusc.sample[1]
    path, boxes, _ = nusc.get_sample_data(sample['data']['LIDAR_TOP'])
    points = LidarPointCloud.from_file(path).points[:3]
    for box in boxes:
        expected = points_in_box(box, points).sum()
        assert abs(nusc.get('sample_annotation', box.token)['num_lidar_pts'] - expected) <= 1


def test_velocities_and_attributes_agree(nusc: NuScenes):
    seen = set()
    for annotation in nusc.sample_annotation:
        if not annotation['prev'] or not annotation['next'] or not annotation['attribute_tokens']:
            continue
        speed = np.linalg.norm(nusc.box_velocity(annotation['token']))
        name = nusc.get('attribute', annotation['attribute_tokens'][0])['name']
        seen.add(name)
        if name in ('vehicle.parked', 'pedestrian.standing', 'cycle.without_rider'):
            assert speed < 1e-6
        elif name in ('vehicle.moving', 'pedestrian.moving'):
            assert speed > 0.1
    assert {'vehicle.parked', 'vehicle.moving', 'pedestrian.moving', 'cycle.with_rider'} <= seen


def test_evaluation_of_the_ground_truth_is_perfect(
    nusc: NuScenes, data_root: pathlib.Path, tmp_path: pathlib.Path
):
    results = {}
    for sample in nusc.sample:
        if nusc.get('scene', sample['scene_token'])['name'] == 'scene-0061':
            continue
        results[sample['token']] = [
            {
                'sample_token': sample['token'],
                'translation': annotation['translation'],
                'size': annotation['size'],
                'rotation': annotation['rotation'],
                'velocity': np.nan_to_num(nusc.box_velocity(annotation['token'])[:2]).tolist(),
                'detection_name': category_to_detection_name(annotation['category_name']),
                'detection_score': 1.0,
                'attribute_name': ''.join(
                    nusc.get('attribute', token)['name'] for token in annotation['attribute_tokens']
                ),
            }
            for annotation in (nusc.get('sample_annotation', token) for token in sample['anns'])
            # The evaluation removes them from the ground truth, but cannot from predictions.
            if annotation['num_lidar_pts'] > 0
        ]
    path = tmp_path / 'results_nusc.json'
    meta = dict.fromkeys(('use_camera', 'use_lidar', 'use_radar', 'use_map', 'use_external'), False)
    path.write_text(json.dumps({'meta': meta, 'results': results}))
    evaluation = NuScenesEval(
        nusc, config_factory('detection_cvpr_2019'), str(path), 'mini_val', str(tmp_path), False
    )
    metrics, _ = evaluation.evaluate()
    for name in CLASS_NAMES:
        assert metrics.mean_dist_aps[name] > 0.99, name
    assert metrics.nd_score > 0.99


def test_same_seed_gives_the_same_files_with_any_number_of_workers(tmp_path: pathlib.Path):
    settings = SimulationSettings(
        frames_per_scene=3, image_width=32, image_height=18, lidar_azimuth_steps=60
    )
    scenes = SCENES[:2]
    alone = hash_of_files(simulate_nuscenes(tmp_path / 'a', scenes, 5, settings))
    shared = hash_of_files(simulate_nuscenes(tmp_path / 'b', scenes, 5, settings, workers=2))
    assert alone == shared
    other = hash_of_files(simulate_nuscenes(tmp_path / 'c', scenes, 6, settings))
    samples = [name for name in alone if name.startswith('samples')]
    assert samples
    assert all(alone[name] != other[name] for name in samples)
    tokens = [
        record['token'] for record in json.loads((tmp_path / 'a/v1.0-mini/sample.json').read_text())
    ]
    others = [
        record['token'] for record in json.loads((tmp_path / 'c/v1.0-mini/sample.json').read_text())
    ]
    assert not set(tokens) & set(others)


def test_can_bus_agrees_with_the_ego_poses(nusc: NuScenes, data_root: pathlib.Path):
    can_bus = NuScenesCanBus(dataroot=str(data_root))
    for scene in nusc.scene:
        messages = can_bus.get_messages(scene['name'], 'pose')
        times = np.array([message['utime'] for message in messages])
        assert (np.diff(times) == 20_000).all()
        sample = nusc.get('sample', scene['last_sample_token'])
        assert times[0] < nusc.get('sample', scene['first_sample_token'])['timestamp']
        assert times[-1] > sample['timestamp']
        record = nusc.get('sample_data', sample['data']['LIDAR_TOP'])
        pose = nusc.get('ego_pose', record['ego_pose_token'])
        message = messages[int(np.argmin(np.abs(times - sample['timestamp'])))]
        np.testing.assert_allclose(message['pos'], pose['translation'], atol=1e-6)
        turn = Quaternion(message['orientation']).inverse * Quaternion(pose['rotation'])
        assert abs(turn.degrees) < 1e-4
        positions = np.array([message['pos'] for message in messages])
        speeds = np.linalg.norm(np.diff(positions, axis=0), axis=1) / 0.02
        reported = np.array([message['vel'][0] for message in messages])
        np.testing.assert_allclose(reported[1:-1], speeds[1:], atol=0.25)


@pytest.mark.slow
def test_mmdet3d_converter_accepts_the_data(data_root: pathlib.Path, tmp_path: pathlib.Path):
    """mmdet3d's own scripts, run as their command line runs them."""
    import mmdet3d

    tools = pathlib.Path(mmdet3d.__file__).parent / '.mim' / 'tools'
    if not tools.is_dir():
        pytest.skip('this mmdet3d was installed without its tools')
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'nuscenes').symlink_to(data_root)
    code = (
        f'import sys; sys.path.insert(0, {str(tools)!r});'
        'from dataset_converters import nuscenes_converter, update_infos_to_v2;'
        "nuscenes_converter.create_nuscenes_infos('./data/nuscenes', 'converted', 'v1.0-mini');"
        "[update_infos_to_v2.update_nuscenes_infos(f'./data/nuscenes/converted_infos_{s}.pkl', '.')"
        " for s in ('train', 'val')]"
    )
    finished = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    for split, frames in (('train', 4), ('val', 8)):
        info = pickle.loads((tmp_path / f'converted_infos_{split}.pkl').read_bytes())
        assert len(info['data_list']) == frames
        assert len(info['data_list'][1]['lidar_sweeps']) == 2
        assert all(len(frame['instances']) > 10 for frame in info['data_list'])
        assert all(len(frame['images']) == 6 for frame in info['data_list'])
    for path in data_root.glob('converted_infos_*.pkl'):
        path.unlink()


def test_bad_arguments_are_named(tmp_path: pathlib.Path):
    with pytest.raises(SimulationError, match='scene-9999'):
        resolve_scene_names(['scene-9999'], 'v1.0-mini')
    with pytest.raises(SimulationError, match='twice'):
        resolve_scene_names(['scene-0061', 'scene-0061'], 'v1.0-mini')
    with pytest.raises(SimulationError, match='11'):
        resolve_scene_names(['11'], 'v1.0-mini')
    with pytest.raises(SimulationError, match='frames_per_scene is 0'):
        SimulationSettings(frames_per_scene=0)
    (tmp_path / 'used').mkdir()
    (tmp_path / 'used' / 'keep.txt').write_text('mine')
    with pytest.raises(SimulationError, match='not empty'):
        simulate_nuscenes(tmp_path / 'used', SCENES, 0, TINY)
    (tmp_path / 'file').write_text('mine')
    with pytest.raises(SimulationError, match='is a file'):
        simulate_nuscenes(tmp_path / 'file', SCENES, 0, TINY)
    huge = SimulationSettings(
        frames_per_scene=1000, image_width=4096, image_height=4096, sweeps_per_keyframe=9
    )
    with pytest.raises(SimulationError, match='GB'):
        simulate_nuscenes(tmp_path / 'huge', SCENES * 300, 0, huge)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['file', 'used']


def test_number_of_scenes_always_includes_validation():
    assert resolve_scene_names(['2'], 'v1.0-mini') == ['scene-0061', 'scene-0916']
    assert len(resolve_scene_names([], 'v1.0-mini')) == 10


def test_interrupted_run_leaves_nothing(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    from nuscenes_simulation import dataset_writer

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset_writer, 'scene_tables', stop)
    settings = SimulationSettings(
        frames_per_scene=1, image_width=32, image_height=18, lidar_azimuth_steps=60
    )
    with pytest.raises(KeyboardInterrupt):
        simulate_nuscenes(tmp_path / 'out', SCENES[:1], 0, settings)
    assert not list(tmp_path.iterdir())


SMALL = SimulationSettings(
    frames_per_scene=8, image_width=32, image_height=18, lidar_azimuth_steps=60
)


def test_a_killed_run_leaves_no_process_and_the_next_one_removes_its_folder(
    tmp_path: pathlib.Path,
):
    code = (
        'from nuscenes_simulation import SimulationSettings, simulate_nuscenes\n'
        f'settings = SimulationSettings(frames_per_scene=40, image_width=64, image_height=36)\n'
        f'simulate_nuscenes({str(tmp_path / "out")!r}, {SCENES!r}, 0, settings, workers=2)'
    )
    run = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE)
    while not list(tmp_path.glob('.out*/samples/*/*.jpg')):
        assert run.poll() is None
        time.sleep(0.05)
    run.kill()
    # The pipe ends when the last worker has.
    run.communicate(timeout=30)
    (left,) = tmp_path.iterdir()
    assert left.name != 'out'
    simulate_nuscenes(tmp_path / 'out', SCENES[:1], 0, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ['out']


def test_a_run_beside_another_leaves_its_folder_alone(tmp_path: pathlib.Path):
    from nuscenes_simulation.dataset_writer import _temporary_root

    (tmp_path / '.out-mine').mkdir()
    with _temporary_root(tmp_path / 'out') as running:
        simulate_nuscenes(tmp_path / 'out', SCENES[:1], 0, SMALL)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            ['.out-mine', 'out', running.name]
        )
        shutil.rmtree(tmp_path / 'out')


@pytest.mark.parametrize(
    ('limit', 'options'),
    # Too small for the points of a frame; for an image, which takes 1,000 bytes, but not for 16
    # points; for the table of annotations.
    [(2_000, {}), (900, {'lidar_beams': 2, 'lidar_azimuth_steps': 8}), (100_000, {})],
    ids=['points', 'image', 'table'],
)
@pytest.mark.parametrize('workers', [1, 2])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    tmp_path: pathlib.Path, limit: int, options: dict, workers: int
):
    settings = dataclasses.replace(SMALL, **options)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(SimulationError, match=f'{tmp_path}/out: cannot be written') as raised:
            simulate_nuscenes(tmp_path / 'out', SCENES[:1], 0, settings, workers=workers)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert '\n' not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_command_line_reports_one_line(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    main = runpy.run_path(str(REPOSITORY / 'tools' / 'simulate_nuscenes.py'))['main']
    with pytest.raises(SystemExit) as leaving:
        main(['--out', str(tmp_path / 'out'), '--scenes', 'scene-1234'])
    assert leaving.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: unknown scene name 'scene-1234'")


def test_every_option_reaches_the_simulation(tmp_path: pathlib.Path, monkeypatch):
    """An option that changed nothing would be taken for a result."""
    tool = runpy.run_path(str(REPOSITORY / 'tools' / 'simulate_nuscenes.py'))
    words = {
        'frames_per_scene': 3,
        'supersampling': 1,
        'lidar_beams': 16,
        'lidar_azimuth_steps': 64,
        'lidar_range': 33.0,
        'sweeps_per_keyframe': 2,
        'visibility': 21.0,
        'can_bus': True,
        'version': 'v1.0-trainval',
    }
    seen = []

    def simulate(out, scenes, seed, settings, **options):
        seen.append(settings)
        return pathlib.Path(out)

    monkeypatch.setitem(tool['main'].__globals__, 'simulate_nuscenes', simulate)
    command = ['--out', str(tmp_path), '--image-size', '64', '36', '--no-picture']
    for name, value in words.items():
        command += [f'--{name.replace("_", "-")}', *([] if value is True else [str(value)])]
    tool['main'](command)
    expected = SimulationSettings(**words, image_width=64, image_height=36)
    assert seen == [expected]
    default = SimulationSettings()
    for field in dataclasses.fields(default):
        assert getattr(expected, field.name) != getattr(default, field.name), field.name
