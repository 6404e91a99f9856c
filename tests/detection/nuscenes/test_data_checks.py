import os
import pickle
import re

import cv2
import numpy as np
import pytest

from ciba_bev.detection.nuscenes.data_checks import (
    DataError,
    DataFile,
    DataProblem,
    create_data_command,
    data_error,
    file_problem,
    file_problems,
)
from ciba_bev.detection.nuscenes.info_files import load_info_file, save_info_file


def image_file(path, cut=0, damaged=slice(0)):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    encoded = bytearray(cv2.imencode('.jpg', pixels)[1].tobytes())
    encoded[damaged] = bytes(len(encoded[damaged]))
    path.write_bytes(encoded[: len(encoded) - cut])
    return DataFile(str(path), 'token', 'images.CAM_FRONT.img_path')


def lidar_file(path, size):
    path.write_bytes(bytes(size))
    return DataFile(str(path), 'token', 'lidar_points.lidar_path', point_features=5)


def link(path, target):
    path.symlink_to(target)
    return DataFile(str(path), 'token', 'field')


def test_whole_files_pass(tmp_path):
    assert file_problem(image_file(tmp_path / 'a.jpg')) is None
    assert file_problem(lidar_file(tmp_path / 'a.bin', 60)) is None


def test_padding_behind_an_image_is_no_truncation(tmp_path):
    file = image_file(tmp_path / 'a.jpg')
    with open(file.path, 'ab') as stream:
        stream.write(bytes(7))
    assert file_problem(file) is None


@pytest.mark.parametrize(
    ('make', 'finding'),
    [
        (lambda folder: image_file(folder / 'a.jpg', cut=500), 'end marker'),
        (lambda folder: image_file(folder / 'a.jpg', cut=10**6), 'empty'),
        (lambda folder: lidar_file(folder / 'a.bin', 61), 'truncated'),
        (lambda folder: lidar_file(folder / 'a.bin', 64), 'another number of features'),
        (lambda folder: image_file(folder / 'a.jpg', damaged=slice(0, 9)), 'start marker'),
        (lambda folder: link(folder / 'a.jpg', folder / 'gone'), 'link to .*gone, which does not'),
        (lambda folder: DataFile(str(folder), 'token', 'field'), 'a folder, not a file'),
        (lambda folder: lidar_file(folder / 'a.bin', 0), 'empty'),
        (lambda folder: DataFile(str(folder / 'a.bin'), 'token', 'field', 5), 'does not exist'),
    ],
)
def test_broken_files_are_described(tmp_path, make, finding):
    file = make(tmp_path)
    problem = file_problem(file)
    assert re.search(finding, problem.finding)
    for part in (file.path, file.sample_token, file.field, 'Unpack'):
        assert part in str(problem)


def test_out_of_time_images_are_still_checked_for_presence(tmp_path):
    remarks = []
    files = [
        image_file(tmp_path / 'truncated.jpg', cut=500),
        DataFile(str(tmp_path / 'missing.jpg'), 'token', 'field'),
    ]
    problems = file_problems(files, max_seconds=0, log=remarks.append)
    assert [problem.file for problem in problems] == [files[1].path]
    assert 'truncation' in remarks[0]


def test_ten_problems_are_spelled_out_and_all_are_counted():
    problems = [DataProblem(f'file{i}', 't', 'f', 'gone', 'Remedy.') for i in range(25)]
    text = str(data_error(problems))
    assert '25 problems' in text
    assert text.count('gone') == 10
    assert '15 more' in text


def test_the_error_survives_the_way_from_a_data_loading_process():
    error = pickle.loads(pickle.dumps(DataError('what to do')))
    assert isinstance(error, DataError)
    assert str(error) == 'what to do'


def test_the_command_repeats_folder_and_tag():
    assert create_data_command('d/mini_infos_val.pkl', 'v1.0-mini', annotate_only=True) == (
        'python tools/create_data.py --root-path d --version v1.0-mini --extra-tag mini '
        '--annotate-only'
    )


def test_info_file_round_trip(tmp_path):
    content = {'metainfo': {'version': 'v1.0-mini'}, 'data_list': [{'token': 'a'}]}
    save_info_file(content, tmp_path / 'new' / 'infos.pkl')
    assert load_info_file(tmp_path / 'new' / 'infos.pkl') == content
    assert os.listdir(tmp_path / 'new') == ['infos.pkl']


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / 'infos.pkl'
    content = {'metainfo': {}, 'data_list': []}
    save_info_file(content, path)
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        save_info_file({'metainfo': {}, 'data_list': [lambda: None]}, path)
    assert load_info_file(path) == content
    assert os.listdir(tmp_path) == ['infos.pkl']


def test_unreadable_info_files_are_described(tmp_path):
    path = tmp_path / 'nuscenes_infos_train.pkl'
    with pytest.raises(DataError, match=r'does not exist.*create_data\.py'):
        load_info_file(path)
    path.write_bytes(pickle.dumps({'metainfo': {}, 'data_list': ['x' * 100]})[:50])
    with pytest.raises(DataError, match='truncated'):
        load_info_file(path)
    path.write_bytes(pickle.dumps({'infos': [], 'metadata': {}}))
    with pytest.raises(DataError, match='format'):
        load_info_file(path)
