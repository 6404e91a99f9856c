import math
import os

import cv2
import numpy as np
import pytest

from ciba_bev.detection.nuscenes.data_checks import DataFile
from ciba_bev.detection.nuscenes.file_contents import (
    content_problem,
    content_problems,
    likely_point_features,
)


def image_file(path, damage=lambda encoded: encoded, center=None, size=(40, 60)):
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    path.write_bytes(damage(cv2.imencode('.jpg', pixels)[1].tobytes()))
    return DataFile(str(path), 'token', 'images.CAM_FRONT.img_path', center=center)


def zeroed(start, stop):
    return lambda encoded: encoded[:start] + bytes(stop - start) + encoded[stop:]


@pytest.mark.parametrize(
    ('damage', 'finding'),
    [
        (zeroed(20, 400), 'cannot be decoded'),
        (lambda encoded: b'', 'cannot be decoded'),
        (lambda encoded: bytes(len(encoded)), 'cannot be decoded'),
        # These decode, the rest being filled up with grey.
        (zeroed(1500, 2500), 'damaged inside'),
        (lambda encoded: encoded[:1500] + encoded[-2:], 'damaged inside'),
    ],
)
def test_damaged_images_are_told_from_whole_ones(tmp_path, damage, finding):
    assert content_problem(image_file(tmp_path / 'whole.jpg')) is None
    file = image_file(tmp_path / 'damaged.jpg', damage)
    problem = content_problem(file)
    assert finding in problem.finding
    for part in (file.path, file.sample_token, file.field):
        assert part in str(problem)


def test_looking_for_damage_gives_the_error_stream_back(tmp_path, capfd):
    content_problem(image_file(tmp_path / 'a.jpg', zeroed(1500, 2500)))
    os.write(2, b'still there')
    assert capfd.readouterr().err == 'still there'


@pytest.mark.parametrize(('scale', 'is_right'), [(1, True), (0.5, False), (0.7, False)])
def test_an_image_that_was_resized_without_its_calibration_is_found(tmp_path, scale, is_right):
    # nuScenes' front camera has its principal point at (816, 491) in an image of 1600 x 900.
    size = (round(900 * scale), round(1600 * scale))
    file = image_file(tmp_path / 'a.jpg', center=(816.3, 491.5), size=size)
    problem = content_problem(file, max_center_offset=0.25)
    if is_right:
        assert problem is None
    else:
        assert f'{size[1]} x {size[0]} pixels' in problem.finding
        assert 'cam2img' in problem.remedy
    assert content_problem(file) is None


def scan(features, seed=0):
    """Points of a spinning LiDAR: x, y, z, intensity, ring and what else there may be."""
    rng = np.random.default_rng(seed)
    angle, distance = rng.uniform(-np.pi, np.pi, 3000), rng.gamma(2.0, 8.0, 3000)
    columns = [
        distance * np.cos(angle),
        distance * np.sin(angle),
        rng.normal(-1.0, 1.0, 3000),
        rng.integers(0, 256, 3000),
        rng.integers(0, 32, 3000),
        rng.uniform(0, 0.1, 3000),
    ]
    return np.stack(columns[:features], 1).astype(np.float32)


@pytest.mark.parametrize('true', [3, 4, 5, 6])
@pytest.mark.parametrize('stated', [3, 4, 5, 6])
def test_the_number_of_features_is_told_from_the_numbers(true, stated):
    likely = likely_point_features(scan(true).ravel(), stated)
    if true == stated:
        assert likely is None
    elif math.gcd(true, stated) == 1:
        assert likely == true
    else:
        assert likely in (None, true)


def test_a_real_scan_has_the_five_features_that_it_has(real_frame):
    (path,) = real_frame.rglob('*LIDAR_TOP*.bin')
    values = np.fromfile(path, np.float32)
    assert likely_point_features(values, 5) is None
    assert likely_point_features(values, 4) == 5
    assert likely_point_features(values.reshape(-1, 5)[:, :4].ravel(), 5) == 4


def lidar_file(path, points, features):
    points.tofile(path)
    return DataFile(str(path), 'token', 'lidar_points.lidar_path', point_features=features)


def test_points_read_with_another_number_of_features_are_found(tmp_path):
    # 3000 points of four numbers are 2400 of five, so that nothing is left over.
    problem = content_problem(lidar_file(tmp_path / 'a.bin', scan(4), 5))
    assert 'seem to have 4 numbers each, not the 5' in problem.finding
    assert 'num_pts_feats' in problem.remedy
    assert 'load_dim' in problem.remedy
    assert content_problem(lidar_file(tmp_path / 'a.bin', scan(4), 4)) is None


@pytest.mark.parametrize(
    ('column', 'value', 'finding'),
    [
        (3, np.inf, '2 of its 3000 points contain NaN or infinity'),
        (0, np.nan, '2 of its 3000 points contain NaN or infinity'),
        (1, -1e30, r'a coordinate is 1e\+30 m'),
    ],
)
def test_impossible_points_are_found(tmp_path, column, value, finding):
    points = scan(5)
    points[[7, 2000], column] = value
    problem = content_problem(lidar_file(tmp_path / 'a.bin', points, 5))
    assert finding.replace('\\', '') in problem.finding


def test_a_wrong_format_is_said_once(tmp_path):
    files = [lidar_file(tmp_path / f'{name}.bin', scan(4, ord(name)), 5) for name in 'abc']
    (problem,) = content_problems(files)
    assert problem.file == files[0].path
    # Damaged images are each to be replaced.
    images = [image_file(tmp_path / f'{name}.jpg', zeroed(20, 400)) for name in 'abc']
    assert len(content_problems(images)) == 3


def test_no_file_is_read_once_the_time_is_over(tmp_path):
    file = image_file(tmp_path / 'a.jpg', zeroed(20, 400))
    assert len(content_problems([file, file])) == 2
    assert content_problems([file], max_seconds=-1) == []
