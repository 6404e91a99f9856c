import contextlib
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
from ciba_bev.errors import CibaError


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
        (lambda folder: lidar_file(folder / 'a.bin', 64), 'number of features of a point is not'),
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


def test_the_command_tells_the_data_from_the_info_files():
    assert create_data_command('o/nuscenes_infos_val.pkl', 'v1.0-test', data_root='my data/') == (
        "python tools/create_data.py --root-path 'my data' --version v1.0-test --out-dir o"
    )
    assert create_data_command('d/nuscenes_infos_val.pkl', 'v1.0-test', data_root='d/') == (
        'python tools/create_data.py --root-path d --version v1.0-test'
    )


def test_info_file_round_trip(tmp_path):
    content = {'metainfo': {'version': 'v1.0-mini'}, 'data_list': [{'token': 'a'}]}
    save_info_file(content, tmp_path / 'new' / 'infos.pkl')
    assert load_info_file(tmp_path / 'new' / 'infos.pkl') == content
    assert os.listdir(tmp_path / 'new') == ['infos.pkl']


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_info_files_run_no_code(tmp_path, protocol):
    path = tmp_path / 'nuscenes_infos_train.pkl'
    content = {'metainfo': {}, 'data_list': [Malicious(tmp_path / 'written')]}
    path.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(DataError, match=r'refused.*open.*run code'):
        load_info_file(path)
    assert not (tmp_path / 'written').exists()


@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_info_files_hold_arrays_and_numbers(tmp_path, protocol):
    """mmdet3d's converter leaves NumPy's numbers in them, other projects' arrays."""
    path = tmp_path / 'infos.pkl'
    info = {
        'num_lidar_pts': np.int64(5),
        'valid': np.bool_(True),
        'velocity': np.float32(0.5),
        'lidar2cam': np.arange(16.0).reshape(4, 4),
        'names': np.array(['car', 'bus']),
        'matrix': np.asfortranarray(np.eye(3, dtype=np.float32)),
        'set': {1, 2},
        'bytes': b'abc',
    }
    path.write_bytes(pickle.dumps({'metainfo': {}, 'data_list': [info]}, protocol))
    (found,) = load_info_file(path)['data_list']
    np.testing.assert_equal(found, info)
    assert type(found['num_lidar_pts']) is np.int64


@pytest.mark.parametrize(('ours', 'theirs'), [('numpy.core', 'numpy._core')])
def test_info_files_of_the_next_numpy_are_read(tmp_path, ours, theirs):
    path = tmp_path / 'infos.pkl'
    info = {'array': np.arange(3), 'number': np.float64(1.5)}
    # Protocol 0 names modules in plain text.
    written = pickle.dumps({'metainfo': {}, 'data_list': [info]}, protocol=0)
    assert ours.encode() in written or theirs.encode() in written
    for module in (ours, theirs):
        other = written.replace(ours.encode(), b'@').replace(theirs.encode(), b'@')
        path.write_bytes(other.replace(b'@', module.encode()))
        np.testing.assert_equal(load_info_file(path)['data_list'], [info])


@pytest.mark.parametrize('place', range(0, 200, 10))
def test_any_damage_is_described(tmp_path, place):
    path = tmp_path / 'infos.pkl'
    written = bytearray(pickle.dumps({'metainfo': {'a': 1}, 'data_list': [{'x' * 150: 2.0}]}, 2))
    written[place % len(written)] ^= 0x57
    path.write_bytes(bytes(written))
    # Nothing else may come out; what is changed in the middle of a text is no damage.
    with contextlib.suppress(DataError):
        load_info_file(path)


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    path = tmp_path / 'file' / 'infos.pkl'
    with pytest.raises(CibaError, match=re.escape(str(path))):
        save_info_file({'metainfo': {}, 'data_list': []}, path)


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
