import copy
import math

import pytest

from ciba_bev.detection.nuscenes.data_checks import DataError, NeededFields
from ciba_bev.detection.nuscenes.info_files import load_info_file, save_info_file
from ciba_bev.detection.nuscenes.value_checks import value_problems

EVERYTHING = NeededFields(
    lidar=True,
    sweeps=True,
    cameras=True,
    instance_fields=('bbox_3d', 'bbox_label_3d', 'bbox_3d_isvalid', 'velocity'),
    temporal=True,
)


@pytest.fixture(scope='module')
def content(simulated_nuscenes):
    return load_info_file(simulated_nuscenes / 'nuscenes_infos_train.pkl')


def problems_of(content, needed=EVERYTHING):
    categories = content['metainfo']['categories']
    return value_problems(content['data_list'], needed, 'infos.pkl', categories)


def changed(content, path, value):
    """A copy with one value of the third frame changed."""
    content = copy.deepcopy(content)
    part = content['data_list'][2]
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return content


def test_right_values_pass(content):
    assert problems_of(content) == []


@pytest.mark.parametrize(
    ('path', 'value', 'field', 'finding'),
    [
        (('ego2global', 0, 3), math.nan, 'ego2global', 'NaN'),
        (('lidar_points', 'lidar2ego', 1, 1), math.inf, 'lidar_points.lidar2ego', 'NaN'),
        (('timestamp',), math.nan, 'timestamp', 'NaN'),
        (('can_bus', 17), math.nan, 'can_bus', 'NaN'),
        (
            ('images', 'CAM_BACK', 'lidar2cam', 2, 3),
            -math.inf,
            'images.CAM_BACK.lidar2cam',
            'NaN or infinity',
        ),
        (('images', 'CAM_BACK', 'cam2img', 0, 0), 0.0, 'images.CAM_BACK.cam2img', 'focal lengths'),
        (
            ('lidar_sweeps', 0, 'lidar_points', 'lidar2sensor', 0, 0),
            math.nan,
            'lidar_sweeps[0].lidar_points.lidar2sensor',
            'NaN',
        ),
        (('instances', 1, 'bbox_3d', 6), math.nan, 'instances[1].bbox_3d', 'NaN or infinity'),
        (('instances', 1, 'bbox_3d', 4), 0.0, 'instances[1].bbox_3d', 'its size is'),
        (('instances', 0, 'bbox_3d', 3), -2.0, 'instances[0].bbox_3d', 'its size is [-2.0, '),
        (('instances', 1, 'velocity', 0), math.inf, 'instances[1].velocity', 'infinite'),
        (
            ('instances', 1, 'bbox_label_3d'),
            10,
            'instances[1].bbox_label_3d',
            'no category has the label 10',
        ),
    ],
)
def test_impossible_values_are_named(content, path, value, field, finding):
    (problem,) = problems_of(changed(content, path, value))
    assert problem.field == field
    assert finding in problem.finding
    assert problem.sample_token == content['data_list'][2]['token']


def test_what_is_not_read_may_be_anything(content):
    camera = changed(content, ('images', 'CAM_BACK', 'cam2img', 0, 0), math.nan)
    assert problems_of(camera, NeededFields(lidar=True)) == []
    # nuScenes has velocities that are not known, and objects of no category.
    assert problems_of(changed(content, ('instances', 1, 'velocity'), [math.nan] * 2)) == []
    ignored = changed(content, ('instances', 1, 'bbox_label_3d'), -1)
    ignored['data_list'][2]['instances'][1]['bbox_3d'][3] = 0.0
    assert problems_of(ignored) == []


def test_a_frame_that_occurs_twice_is_found(content):
    twice = copy.deepcopy(content)
    twice['data_list'].append(twice['data_list'][0])
    (problem,) = problems_of(twice)
    assert problem.sample_token == content['data_list'][0]['token']
    assert 'occurs 2 times' in problem.finding


def test_a_dataset_with_impossible_values_is_not_built(build_dataset, content, tmp_path):
    path = tmp_path / 'infos.pkl'
    save_info_file(changed(content, ('instances', 0, 'bbox_label_3d'), 99), path)
    with pytest.raises(DataError, match=r'infos\.pkl: no category has the label 99'):
        build_dataset('nuscenes_camera', ann_file=str(path))
