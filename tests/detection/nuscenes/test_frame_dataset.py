import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.dataset import Compose

from ciba_bev.detection.nuscenes.check_data_hook import check_nuscenes_data
from ciba_bev.detection.nuscenes.data_checks import TEMPORAL_FIELDS, DataError
from ciba_bev.detection.nuscenes.frame_dataset import iterate_transforms
from ciba_bev.detection.nuscenes.info_files import load_info_file, save_info_file


@pytest.fixture
def changed_copy(simulated_nuscenes, tmp_path):
    """Writes a changed copy of the training infos and gives its path."""

    def write(change):
        content = load_info_file(simulated_nuscenes / 'nuscenes_infos_train.pkl')
        change(content)
        path = tmp_path / 'changed_infos_train.pkl'
        save_info_file(content, path)
        return str(path)

    return write


def test_the_version_is_the_info_files(build_dataset):
    assert build_dataset('nuscenes_camera').metainfo['version'] == 'v1.0-mini'


def test_another_version_in_the_configuration_is_refused(build_dataset):
    with pytest.raises(DataError, match=r'v1\.0-mini.*v1\.0-trainval'):
        build_dataset('nuscenes_camera', metainfo={'version': 'v1.0-trainval'})


def test_labels_are_mapped_by_name(build_dataset, changed_copy):
    def reverse_categories(content):
        count = len(content['metainfo']['categories'])
        for name, label in content['metainfo']['categories'].items():
            if label >= 0:
                content['metainfo']['categories'][name] = count - 1 - label
        for info in content['data_list']:
            for instance in info['instances']:
                for field in ('bbox_label', 'bbox_label_3d'):
                    if instance[field] >= 0:
                        instance[field] = count - 1 - instance[field]

    usual = build_dataset('nuscenes_lidar')
    reverse = build_dataset('nuscenes_lidar', ann_file=changed_copy(reverse_categories))
    for index in range(len(usual)):
        labels = usual.get_ann_info(index)['gt_labels_3d']
        np.testing.assert_array_equal(reverse.get_ann_info(index)['gt_labels_3d'], labels)
        assert labels.max() < 10


def test_infos_of_plain_mmdet3d_are_enough(build_dataset, changed_copy):
    def strip(content):
        for info in content['data_list']:
            for field in TEMPORAL_FIELDS:
                del info[field]

    dataset = build_dataset('nuscenes_camera', ann_file=changed_copy(strip))
    assert 'ego2global' in dataset[0]['data_samples'].metainfo


@pytest.mark.parametrize('config', ['nuscenes_lidar', 'nuscenes_camera', 'nuscenes_lidar_camera'])
def test_a_real_info_file_loads_as_it_is(build_dataset, dataset_config, real_frame, config):
    (info_file,) = real_frame.glob('*.pkl')
    prefix = dict.fromkeys(dataset_config(config).data_prefix, '')
    dataset = build_dataset(
        config, data_root=str(real_frame), ann_file=info_file.name, data_prefix=prefix
    )
    check_nuscenes_data(dataset)
    item = dataset[0]
    if config != 'nuscenes_lidar':
        assert item['inputs']['img'].shape == (6, 3, 900, 1600)
    if config != 'nuscenes_camera':
        assert len(item['inputs']['points']) > 200_000


def test_an_unknown_class_is_named(build_dataset, changed_copy):
    with pytest.raises(DataError, match=r'tram.*traffic_cone'):
        build_dataset('nuscenes_camera', metainfo={'classes': ['car', 'tram']})

    def drop_bus(content):
        del content['metainfo']['categories']['bus']

    with pytest.raises(DataError, match='class names bus'):
        build_dataset('nuscenes_camera', ann_file=changed_copy(drop_bus))


@pytest.mark.parametrize(
    ('config', 'field', 'remove'),
    [
        (
            'nuscenes_lidar',
            'lidar_points.lidar_path',
            lambda i: i['lidar_points'].pop('lidar_path'),
        ),
        (
            'nuscenes_lidar',
            'lidar_sweeps[0].lidar_points.lidar2sensor',
            lambda i: i['lidar_sweeps'][0]['lidar_points'].pop('lidar2sensor'),
        ),
        (
            'nuscenes_camera',
            'images.CAM_BACK.cam2img',
            lambda i: i['images']['CAM_BACK'].pop('cam2img'),
        ),
        ('nuscenes_camera', 'images.CAM_FRONT.img_path', lambda i: i.pop('images')),
        ('nuscenes_camera', 'ego2global', lambda i: i.pop('ego2global')),
        ('nuscenes_camera', 'instances[0].velocity', lambda i: i['instances'][0].pop('velocity')),
        ('nuscenes_camera_sequence', 'prev', lambda i: i.pop('prev')),
        ('nuscenes_camera_sequence', 'can_bus', lambda i: i['can_bus'].pop()),
    ],
)
def test_a_missing_field_is_reported_on_construction(
    build_dataset, changed_copy, config, field, remove
):
    tokens = []

    def change(content):
        tokens.append(content['data_list'][3]['token'])
        remove(content['data_list'][3])

    path = changed_copy(change)
    with pytest.raises(DataError) as raised:
        build_dataset(config, ann_file=path)
    text = str(raised.value)
    for part in (path, f'sample {tokens[0]}', f'field {field}', 'python tools/create_data.py'):
        assert part in text
    assert ('--annotate-only' in text) == (config == 'nuscenes_camera_sequence')


def test_a_field_of_an_unused_sensor_may_be_missing(build_dataset, changed_copy):
    def drop_images(content):
        for info in content['data_list']:
            del info['images']

    path = changed_copy(drop_images)
    assert len(build_dataset('nuscenes_lidar', ann_file=path)) == 7


def test_an_empty_info_file_is_reported(build_dataset, changed_copy):
    path = changed_copy(lambda content: content['data_list'].clear())
    with pytest.raises(DataError, match='no samples'):
        build_dataset('nuscenes_lidar', ann_file=path)


@pytest.mark.parametrize('config', ['nuscenes_camera', 'nuscenes_lidar'])
@pytest.mark.parametrize('damage', ['missing', 'truncated'])
def test_a_broken_file_is_named_when_loading_it_fails(
    build_dataset, simulated_nuscenes, tmp_path, config, damage
):
    root = tmp_path / 'nuscenes'
    shutil.copytree(simulated_nuscenes, root)
    dataset = build_dataset(config, data_root=str(root))
    info = dataset.get_data_info(2)
    if config == 'nuscenes_camera':
        path = Path(info['images']['CAM_BACK']['img_path'])
    else:
        path = Path(info['lidar_sweeps'][0]['lidar_points']['lidar_path'])
    if damage == 'missing':
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(DataError) as raised:
        dataset[2]
    assert str(path) in str(raised.value)
    assert info['token'] in str(raised.value)


def test_other_failures_are_passed_on(build_dataset):
    dataset = build_dataset('nuscenes_camera')
    dataset.pipeline.transforms.insert(0, lambda results: results['no such key'])
    with pytest.raises(KeyError, match='no such key'):
        dataset[0]


def test_wrapped_transforms_are_found():
    wrapper = {
        'type': 'MultiViewWrapper',
        'transforms': [{'type': 'PhotoMetricDistortion3D'}],
    }
    names = [type(transform).__name__ for transform in iterate_transforms(Compose([wrapper]))]
    assert names == ['MultiViewWrapper', 'PhotoMetricDistortion3D']


@pytest.fixture
def own_copy(simulated_nuscenes, tmp_path):
    """A copy of the data that may be changed."""
    root = tmp_path / 'nuscenes'
    shutil.copytree(simulated_nuscenes, root)
    return root


@pytest.mark.parametrize(
    ('damage', 'finding'),
    [
        (lambda encoded: b'', 'the file is empty'),
        (lambda encoded: encoded[:20] + bytes(300) + encoded[320:], 'it cannot be decoded'),
        (lambda encoded: encoded[:100], 'its JPEG end marker is missing'),
    ],
)
def test_an_image_that_is_damaged_later_is_named_in_loading(
    build_dataset, own_copy, damage, finding
):
    dataset = build_dataset('nuscenes_camera', 'val', data_root=str(own_copy))
    image = Path(dataset.get_data_info(3)['images']['CAM_BACK']['img_path'])
    image.write_bytes(damage(image.read_bytes()))
    with pytest.raises(DataError, match=re.escape(image.name) + f': .*{finding}'):
        dataset[3]
    dataset[2]


@pytest.mark.parametrize(
    ('damage', 'finding'),
    [
        (lambda points: points[:0], 'the file is empty'),
        (
            lambda points: np.where(np.arange(5) == 3, np.float32(np.inf), points),
            'contain NaN or infinity',
        ),
    ],
)
def test_points_that_are_damaged_later_are_named_in_loading(
    build_dataset, own_copy, damage, finding
):
    dataset = build_dataset('nuscenes_lidar', 'val', data_root=str(own_copy))
    # The first frame has no sweeps beside its own points.
    path = Path(dataset.get_data_info(0)['lidar_points']['lidar_path'])
    damage(np.fromfile(path, np.float32).reshape(-1, 5)).astype(np.float32).tofile(path)
    with pytest.raises(DataError, match=re.escape(path.name) + f': .*{finding}'):
        dataset[0]
