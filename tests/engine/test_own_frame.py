"""Calibrations, images and points of one's own: what is read, and what is told of mistakes."""

import json

import cv2
import numpy as np
import pytest

from ciba_bev.engine.own_frame import (
    Calibration,
    Camera,
    choose_cameras,
    find_images,
    read_calibration,
    read_images,
    read_points,
)
from ciba_bev.errors import CibaError

INTRINSIC = [[500.0, 0.0, 320.0], [0.0, 500.0, 180.0], [0.0, 0.0, 1.0]]
# The camera looks along the LiDAR's y axis from half a metre before it.
POSE = [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, -0.5], [0.0, 0.0, 0.0, 1.0]]


def write(path, camera=None, **content):
    camera = dict(cam2img=INTRINSIC, lidar2cam=POSE) if camera is None else camera
    path.write_text(json.dumps({'cameras': {'front': camera}, **content}))
    return path


def project(camera, point):
    u, v, depth, _ = camera.lidar2img @ [*point, 1.0]
    return u / depth, v / depth


def offset_projection():
    """As KITTI writes P2: the fourth column moves the camera 0.1 m to its left."""
    return [[*row, column] for row, column in zip(INTRINSIC, (50.0, 0.0, 0.0))]


@pytest.mark.parametrize(
    ('camera', 'expected'),
    [
        (dict(cam2img=INTRINSIC, lidar2cam=POSE), (345.0, 205.0)),
        (dict(cam2img=[[*row, 0.0] for row in INTRINSIC], lidar2cam=POSE[:3]), (345.0, 205.0)),
        # 0.1 m at 10 m and 500 pixels of focal length are 5 pixels.
        (dict(cam2img=offset_projection(), lidar2cam=POSE), (350.0, 205.0)),
        (dict(lidar2img=(np.array(offset_projection()) @ POSE).tolist()), (350.0, 205.0)),
    ],
)
def test_a_point_ten_metres_ahead(tmp_path, camera, expected):
    """Half a metre to the right and half a metre below the axis: 25 pixels each."""
    calibration = read_calibration(write(tmp_path / 'own.json', camera))
    found = project(calibration.cameras['front'], (0.5, 10.5, -0.5))
    np.testing.assert_allclose(found, expected)


def test_what_may_be_left_out(tmp_path):
    calibration = read_calibration(write(tmp_path / 'own.json'))
    assert (calibration.lidar2ego, calibration.ego2global) == (None, None)
    assert (calibration.token, calibration.point_features) == ('', None)


MIRRORED = [[-1.0, 0.0, 0.0, 0.0], *POSE[1:]]


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (dict(camera=dict(cam2img=INTRINSIC)), r'cameras\.front: lidar2cam missing'),
        (dict(camera={}), r'cameras\.front: cam2img and lidar2cam missing'),
        (dict(camera=dict(cam2img=INTRINSIC, lidar2cam=INTRINSIC)), 'lidar2cam is 3 x 3; it must'),
        (dict(camera=dict(cam2img=[1, 2], lidar2cam=POSE)), 'cam2img is 2; it must be 3 x 3'),
        (dict(camera=dict(cam2img='x', lidar2cam=POSE)), 'cam2img is not a matrix of numbers'),
        (dict(camera=dict(cam2img=INTRINSIC, lidar2cam=MIRRORED)), 'not a rigid transform'),
        (dict(ego2global=(np.array(POSE) * 2).tolist()), 'ego2global is not a rigid'),
        (dict(lidar2ego=[[float('nan')] * 4] * 4), 'lidar2ego contains NaN'),
        (dict(point_features=2), 'point_features is 2'),
        (dict(camerass={}), 'unknown field camerass'),
    ],
)
def test_mistakes_in_a_calibration(tmp_path, content, message):
    with pytest.raises(CibaError, match=rf'own\.json.*{message}'):
        read_calibration(write(tmp_path / 'own.json', **content))


@pytest.mark.parametrize('text', ['{', '[]', '{"cameras": []}', '{"cameras": {"front": 3}}'])
def test_files_of_another_form(tmp_path, text):
    path = tmp_path / 'own.json'
    path.write_text(text)
    with pytest.raises(CibaError, match=r'own\.json'):
        read_calibration(path)


def calibrated(*names):
    cameras = {name: Camera(np.array(INTRINSIC), np.array(POSE)) for name in names}
    return Calibration('own.json', cameras)


def test_cameras_come_in_the_order_of_training():
    assert list(choose_cameras(calibrated('b', 'c', 'a'), ['a', 'b', 'c'])) == ['a', 'b', 'c']
    assert list(choose_cameras(calibrated('b', 'a'), [])) == ['b', 'a']
    assert list(choose_cameras(calibrated('left', 'right'), ['a', 'b'])) == ['left', 'right']


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (('a',), 'missing: b'),
        (('a', 'b', 'c'), 'unknown: c'),
        (('left',), 'missing: a, b'),
        ((), 'missing: a, b'),
    ],
)
def test_other_cameras_than_in_training(names, message):
    with pytest.raises(CibaError, match=message):
        choose_cameras(calibrated(*names), ['a', 'b'])


def test_images_are_found_by_name(tmp_path):
    names = ['CAM_FRONT', 'CAM_FRONT_LEFT', 'CAM_BACK']
    cameras = calibrated(*names).cameras
    cameras['CAM_BACK'].image = 'rear.png'
    files = ['n015__CAM_FRONT__1.jpg', 'n015__cam_front_left__1.JPG', 'rear.png', 'CAM_BACK.txt']
    for file in files:
        (tmp_path / file).touch()
    found = find_images([tmp_path], cameras, 'own.json')
    assert {name: path.name for name, path in found.items()} == dict(zip(names, files))
    assert find_images([tmp_path / file for file in files], cameras, 'own.json') == found
    (tmp_path / 'n015__CAM_FRONT__2.jpg').touch()
    with pytest.raises(CibaError, match=r'CAM_FRONT of own\.json has 2 images'):
        find_images([tmp_path], cameras, 'own.json')
    (tmp_path / files[1]).unlink()
    with pytest.raises(CibaError, match=r'CAM_FRONT_LEFT of own\.json has no image'):
        find_images([tmp_path / files[0], tmp_path / files[2]], cameras, 'own.json')


def test_an_image_of_another_size_than_calibrated(tmp_path):
    path = tmp_path / 'front.png'
    cameras = calibrated('front').cameras
    cv2.imwrite(str(path), np.zeros((360, 640, 3), np.uint8))
    assert read_images({'front': path}, cameras)['front'].shape == (360, 640, 3)
    cv2.imwrite(str(path), np.zeros((180, 320, 3), np.uint8))
    with pytest.raises(CibaError, match=r'front\.png: the image has 320 x 180.*at \(320, 180\)'):
        read_images({'front': path}, cameras)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CibaError, match=r'front\.png: the image of front cannot be read'):
        read_images({'front': path}, cameras)


def test_points_of_both_forms(tmp_path):
    points = np.arange(15, dtype=np.float32).reshape(3, 5)
    points.tofile(tmp_path / 'a.bin')
    np.save(tmp_path / 'a.npy', points.astype(np.float64))
    for name in ('a.bin', 'a.npy'):
        np.testing.assert_array_equal(read_points(tmp_path / name, 5), points)
    np.save(tmp_path / 'b.npy', points[:, :3])
    assert read_points(tmp_path / 'b.npy', 5, only_position=True).shape == (3, 3)


@pytest.mark.parametrize(
    ('name', 'points', 'message'),
    [
        ('a.bin', np.zeros((3, 4)), '48 bytes are not a multiple of 5.*append zeros'),
        ('a.npy', np.zeros((3, 4)), r'shape \(3, 4\).*append zeros'),
        ('a.npy', np.zeros(5), r'shape \(5,\)'),
        ('a.bin', np.zeros((0, 5)), 'contains no points'),
        ('a.bin', np.full((3, 5), np.inf), '3 of 3 points are not finite'),
    ],
)
def test_mistakes_in_points(tmp_path, name, points, message):
    points = points.astype(np.float32)
    if name.endswith('.npy'):
        np.save(tmp_path / name, points)
    else:
        points.tofile(tmp_path / name)
    with pytest.raises(CibaError, match=message):
        read_points(tmp_path / name, 5)
    with pytest.raises(CibaError, match=r'nowhere\.bin: there is no such file'):
        read_points(tmp_path / 'nowhere.bin', 5)
