"""One frame of one's own is detected like the same frame in a test."""

import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_models
from mmengine import dump, load
from nuscenes import NuScenes
from pyquaternion import Quaternion

from ciba_bev.engine import prediction, testing
from ciba_bev.errors import CibaError

CAMERAS = (
    'CAM_FRONT',
    'CAM_FRONT_RIGHT',
    'CAM_FRONT_LEFT',
    'CAM_BACK',
    'CAM_BACK_LEFT',
    'CAM_BACK_RIGHT',
)


@pytest.fixture(autouse=True)
def _traces(monkeypatch):
    monkeypatch.setenv('CIBA_TRACEBACK', '1')


def transform(record):
    matrix = Quaternion(record['rotation']).transformation_matrix
    matrix[:3, 3] = record['translation']
    return matrix


@pytest.fixture(scope='module')
def models(simulated_nuscenes, tmp_path_factory):
    """Config and checkpoint of each model."""
    folder = tmp_path_factory.mktemp('models')
    configs = {
        'student': tiny_models.write_student(folder / 'student.py', simulated_nuscenes),
        'temporal student': tiny_models.write_student(
            folder / 'temporal.py', simulated_nuscenes, history=True
        ),
        'teacher': tiny_models.write_teacher(folder / 'teacher.py', simulated_nuscenes),
    }
    return {
        name: (config, tiny_models.write_checkpoint(config, config.with_suffix('.pth')))
        for name, config in configs.items()
    }


@pytest.fixture(scope='module')
def frame(simulated_nuscenes, tmp_path_factory):
    """Images, points and calibration of a validation frame, read from the tables."""
    root, folder = simulated_nuscenes, tmp_path_factory.mktemp('own') / 'frame'
    nusc = NuScenes('v1.0-mini', str(root), verbose=False)
    token = load(root / 'nuscenes_infos_val.pkl')['data_list'][3]['token']
    data = nusc.get('sample', token)['data']

    def placed(channel):
        record = nusc.get('sample_data', data[channel])
        sensor = nusc.get('calibrated_sensor', record['calibrated_sensor_token'])
        return record, sensor, transform(nusc.get('ego_pose', record['ego_pose_token']))

    record, sensor, ego2global = placed('LIDAR_TOP')
    lidar2ego = transform(sensor)
    folder.mkdir()
    shutil.copy(root / record['filename'], folder / 'points.bin')
    calibration = {
        'token': token,
        'lidar2ego': lidar2ego.tolist(),
        'ego2global': ego2global.tolist(),
        'cameras': {},
    }
    # In another order than the model's.
    for channel in sorted(CAMERAS):
        record, sensor, camera_ego2global = placed(channel)
        cam2global = camera_ego2global @ transform(sensor)
        lidar2cam = np.linalg.inv(cam2global) @ ego2global @ lidar2ego
        calibration['cameras'][channel] = {
            'cam2img': sensor['camera_intrinsic'],
            'lidar2cam': lidar2cam.tolist(),
        }
        shutil.copy(root / record['filename'], folder)
    (folder / 'calibration.json').write_text(json.dumps(calibration))
    return folder


@pytest.fixture
def calibration(frame):
    """The frame's calibration, to be changed."""
    return json.loads((frame / 'calibration.json').read_text())


def run(config, checkpoint, out, *words):
    prediction.main([str(config), str(checkpoint), '--out', str(out), *map(str, words)])
    return json.loads((out / 'boxes.json').read_text())['boxes']


def boxes_in_world(boxes, calibration):
    """(N, 4) x, y, z and score of what nuScenes evaluates, by hand."""
    lidar2ego, ego2global = (np.array(calibration[key]) for key in ('lidar2ego', 'ego2global'))
    ranges = dict(car=50, truck=50, bus=50, trailer=50, construction_vehicle=50)
    ranges.update(pedestrian=40, motorcycle=40, bicycle=40, traffic_cone=30, barrier=30)
    rows = []
    for box in boxes:
        in_ego = lidar2ego @ [*box['center'], 1]
        if np.hypot(*in_ego[:2]) <= ranges[box['label']]:
            rows.append([*(ego2global @ in_ego)[:3], box['score']])
    return in_order(rows)


def in_order(rows):
    """Boxes (x, y, z, score) in an order that equal scores do not change."""
    return np.array(sorted(rows, key=lambda row: (-round(row[3], 4), *row[:2]))).reshape(-1, 4)


@pytest.mark.parametrize('model', ['student', 'teacher'])
def test_predictions_are_those_of_a_test(models, frame, calibration, tmp_path, model):
    """From raw files and tables, against tools/test.py on the data set."""
    config, checkpoint = models[model]
    work = tmp_path / 'work'
    testing.main([str(config), str(checkpoint), '--work-dir', str(work), '--format-only'])
    tested = json.loads((work / 'predictions' / testing.RESULTS_FILE).read_text())

    out = tmp_path / 'out'
    words = ['--calibration', frame / 'calibration.json', '--points', frame / 'points.bin']
    boxes = run(config, checkpoint, out, '--images', frame, *words)
    expected = tested['results'][calibration['token']]
    assert expected
    found = json.loads((out / 'results_nusc.json').read_text())
    assert found['meta'] == tested['meta']
    by_score = {'key': lambda box: (-box['detection_score'], box['detection_name'])}
    for mine, theirs in zip(
        sorted(found['results'][calibration['token']], **by_score), sorted(expected, **by_score)
    ):
        assert mine['detection_name'] == theirs['detection_name']
        assert mine['attribute_name'] == theirs['attribute_name']
        for key in ('translation', 'size', 'rotation', 'velocity', 'detection_score'):
            assert mine[key] == pytest.approx(theirs[key], rel=1e-3, abs=1e-3), key
    by_hand = boxes_in_world(boxes, calibration)
    assert len(by_hand) == len(expected)
    world = [[*box['translation'], box['detection_score']] for box in expected]
    np.testing.assert_allclose(by_hand, in_order(world), rtol=1e-3, atol=2e-3)
    assert (cv2.imread(str(out / 'picture.png')).max(axis=(0, 1)) > 200).all()


def test_the_first_frame_of_a_student_with_history(models, simulated_nuscenes, tmp_path):
    """From an info file with CAN bus, where nothing is given but the frame's token."""
    config, checkpoint = models['temporal student']
    work = tmp_path / 'work'
    testing.main([str(config), str(checkpoint), '--work-dir', str(work), '--format-only'])
    tested = json.loads((work / 'predictions' / testing.RESULTS_FILE).read_text())['results']
    infos = simulated_nuscenes / 'nuscenes_infos_val.pkl'
    info = next(info for info in load(infos)['data_list'] if not info['prev'])
    assert np.abs(info['can_bus'][7:16]).max() > 0
    out = tmp_path / 'out'
    run(config, checkpoint, out, '--calibration', infos, '--token', info['token'])
    found = json.loads((out / 'results_nusc.json').read_text())['results']
    scores = [box['detection_score'] for box in tested[info['token']]]
    assert scores
    np.testing.assert_allclose(
        sorted(box['detection_score'] for box in found[info['token']]), sorted(scores), rtol=1e-4
    )


def test_projections_alone_and_no_poses_give_the_same_boxes(models, frame, calibration, tmp_path):
    """lidar2img instead of two matrices; without ego pose the identity is taken."""
    config, checkpoint = models['student']
    found = []
    for name in ('identity', 'none'):
        calibration['ego2global'] = np.eye(4).tolist()
        if name == 'none':
            del calibration['ego2global'], calibration['lidar2ego'], calibration['token']
            for camera in calibration['cameras'].values():
                intrinsic = np.eye(4)
                intrinsic[:3, :3] = camera.pop('cam2img')
                camera['lidar2img'] = (intrinsic @ camera.pop('lidar2cam')).tolist()
        file = tmp_path / f'{name}.json'
        file.write_text(json.dumps(calibration))
        words = ['--images', frame, '--calibration', file]
        found.append(run(config, checkpoint, tmp_path / name, *words))
    assert (tmp_path / 'identity' / 'results_nusc.json').exists()
    assert not (tmp_path / 'none' / 'results_nusc.json').exists()
    assert len(found[0]) > 0
    assert [box['score'] for box in found[0]] == pytest.approx(
        [box['score'] for box in found[1]], rel=1e-4
    )


def test_a_smaller_image_counts_as_padded(models, frame, tmp_path):
    config, checkpoint = models['student']
    for name in ('small', 'padded'):
        folder = tmp_path / name
        folder.mkdir()
        for channel in CAMERAS:
            (file,) = frame.glob(f'*__{channel}__*')
            image = cv2.imread(str(file))
            if channel == 'CAM_BACK':
                image = (
                    image[:40] if name == 'small' else np.pad(image[:40], ((0, 14), (0, 0), (0, 0)))
                )
            cv2.imwrite(str(folder / f'{channel}.png'), image)
    words = ['--calibration', frame / 'calibration.json', '--images']
    small = run(config, checkpoint, tmp_path / 'a', *words, tmp_path / 'small')
    padded = run(config, checkpoint, tmp_path / 'b', *words, tmp_path / 'padded')
    assert small == padded


def test_points_as_an_array_without_cameras(models, frame, tmp_path):
    config, checkpoint = models['teacher']
    points = np.fromfile(frame / 'points.bin', np.float32).reshape(-1, 5)
    np.save(tmp_path / 'points.npy', points.astype(np.float64))
    raw = run(config, checkpoint, tmp_path / 'a', '--points', frame / 'points.bin')
    array = run(config, checkpoint, tmp_path / 'b', '--points', tmp_path / 'points.npy')
    assert raw
    assert raw == array
    np.save(tmp_path / 'points.npy', points[:, :4])
    with pytest.raises(CibaError, match=r'points\.npy.*shape.*reads 5 numbers per point'):
        run(config, checkpoint, tmp_path / 'b', '--points', tmp_path / 'points.npy')


def test_a_distilled_student_needs_no_teacher(models, frame, tmp_path):
    config, checkpoint = models['student']
    distiller = tmp_path / 'distiller.py'
    distiller.write_text(
        f"_base_ = ['{config}']\n"
        "model = dict(_delete_=True, type='ciba_bev.Distiller', student={{_base_.model}},\n"
        "    student_tap=dict(module='pts_bbox_head'),\n"
        "    teacher=dict(config='nowhere.py', checkpoint='nowhere.pth', tap=dict(module='x')))\n"
    )
    words = ['--images', frame, '--calibration', frame / 'calibration.json']
    plain = run(config, checkpoint, tmp_path / 'a', *words)
    assert run(distiller, checkpoint, tmp_path / 'b', *words) == plain


def test_a_real_frame(real_frame, tmp_path):
    """Images of 1600 x 900 and the LiDAR sweep, calibrated by mmdet3d's info file."""
    config = tiny_models.write_student(tmp_path / 'student.py', real_frame)
    checkpoint = tiny_models.write_checkpoint(config, tmp_path / 'weights.pth')
    (points,), (infos,) = real_frame.glob('*.bin'), real_frame.glob('*.pkl')
    words = ['--images', real_frame, '--points', points, '--calibration', infos]
    boxes = run(config, checkpoint, tmp_path / 'out', *words, '--score-thr', '0')
    assert boxes
    assert all(np.abs(box['center'][:2]).max() < 100 for box in boxes)
    (token,) = json.loads((tmp_path / 'out' / 'results_nusc.json').read_text())['results']
    assert token == load(infos)['data_list'][0]['token']


def scores_of_mmdet3d(kind, config, checkpoint, points, images, infos):
    """Scores of the boxes that mmdet3d's functions find."""
    from mmdet3d.apis import inference_detector, inference_multi_modality_detector, init_model

    model = init_model(config, checkpoint, device='cpu')
    if kind == 'teacher':
        result, _ = inference_detector(model, points)
    else:
        result, _ = inference_multi_modality_detector(model, points, images, infos, cam_type='all')
    return result.pred_instances_3d.scores_3d.sort(descending=True).values.tolist()


def in_a_new_process(function, *words):
    """What a function returns where nothing of the project has been imported."""
    code = f'import json, sys\n{inspect.getsource(function)}'
    code += f'json.dump({function.__name__}(*sys.argv[2:]), open(sys.argv[1], "w"))\n'
    out = Path(words[1]).with_name('returned.json')
    script = [sys.executable, '-c', code, str(out), *words]
    ended = subprocess.run(script, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(out.read_text())


@pytest.mark.parametrize('model', ['student', 'teacher', 'temporal student'])
def test_functions_of_mmdet3d_give_the_same(models, frame, calibration, tmp_path, model):
    """They get the checkpoint of a training, and do not pass on the ego pose."""
    config, checkpoint = models[model]
    del calibration['ego2global'], calibration['lidar2ego']
    (tmp_path / 'own.json').write_text(json.dumps(calibration))
    points = frame / 'points.bin'
    words = ['--points', points, '--calibration', tmp_path / 'own.json', '--images', frame]
    boxes = run(config, checkpoint, tmp_path / 'out', *words)
    images = {
        name: dict(camera, img_path=next(frame.glob(f'*__{name}__*')).name)
        for name, camera in calibration['cameras'].items()
    }
    images = {name: images[name] for name in CAMERAS}
    dump({'metainfo': {}, 'data_list': [{'images': images}]}, str(tmp_path / 'own.pkl'))
    words = list(map(str, (model, config, checkpoint, points, frame, tmp_path / 'own.pkl')))
    if model == 'teacher':
        # Once as a user's script, which imports mmdet3d only.
        scores = in_a_new_process(scores_of_mmdet3d, *words)
    else:
        scores = scores_of_mmdet3d(*words)
    assert scores == pytest.approx([box['score'] for box in boxes], rel=1e-4)


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ([], 'needs camera images. Give --images and --calibration'),
        (['--calibration', 'CALIBRATION'], 'needs camera images. Give --images and --calibration'),
        (['--calibration', 'nowhere.json'], r'nowhere\.json: there is no such calibration'),
        (['--calibration', 'CALIBRATION', '--images', 'nowhere'], 'nowhere: there is no such'),
        (['--calibration', 'INFOS'], r'has 7 frames; choose one with --token'),
        (['--calibration', 'INFOS', '--token', 'x'], r'has 7 frames; none of them is x'),
        (['--calibration', 'CALIBRATION', '--images', 'FRAME', '--device', 'cuda:99'], '--device'),
    ],
)
def test_what_is_missing_is_named(models, frame, simulated_nuscenes, tmp_path, words, message):
    config, checkpoint = models['student']
    places = {
        'CALIBRATION': frame / 'calibration.json',
        'INFOS': simulated_nuscenes / 'nuscenes_infos_val.pkl',
        'FRAME': frame,
    }
    with pytest.raises(CibaError, match=message):
        run(config, checkpoint, tmp_path / 'out', *[places.get(word, word) for word in words])


def test_bottlenecks_and_other_weights_are_refused(models, simulated_nuscenes, tmp_path):
    (_, weights), (teacher, _) = models['student'], models['teacher']
    points = next(Path(simulated_nuscenes, 'samples', 'LIDAR_TOP').iterdir())
    with pytest.raises(CibaError, match=r'student\.pth: this checkpoint is not one of the model'):
        run(teacher, weights, tmp_path / 'out', '--points', points)
    bottlenecks = tmp_path / 'bottlenecks.py'
    bottlenecks.write_text(
        f"_base_ = ['{teacher}']\nmodel = dict(_delete_=True, bottleneck_sizes=[2])\n"
    )
    with pytest.raises(CibaError, match='trains bottlenecks'):
        run(bottlenecks, weights, tmp_path / 'out', '--points', points)
