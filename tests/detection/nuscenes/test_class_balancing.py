import numpy as np
import pytest
from mmdet3d.datasets import CBGSDataset

from ciba_bev.detection.nuscenes.data_checks import DataError
from ciba_bev.detection.nuscenes.info_files import load_info_file, save_info_file
from ciba_bev.registry import DATASETS

# The small simulated world has no traffic cone that a sensor sees.
CLASSES = ['car', 'truck', 'construction_vehicle', 'bus', 'pedestrian']


def balanced(dataset):
    return DATASETS.build({'type': 'ciba_bev.CBGSDataset', 'dataset': dataset})


def test_frames_are_drawn_as_mmdet3d_draws_them(build_dataset):
    dataset = build_dataset('nuscenes_lidar', metainfo={'classes': CLASSES})
    np.random.seed(3)
    theirs = CBGSDataset(dataset).sample_indices
    np.random.seed(3)
    assert balanced(dataset).sample_indices == theirs


@pytest.mark.parametrize(
    ('kept', 'message'),
    [
        (lambda label: label != 4, r'no frame has a usable object of construction_vehicle, and'),
        (lambda label: label not in (0, 4), 'object of car, construction_vehicle, and'),
        (lambda label: False, 'object of any class, and'),
    ],
)
def test_a_class_without_objects_is_named(
    build_dataset, simulated_nuscenes, tmp_path, kept, message
):
    content = load_info_file(simulated_nuscenes / 'nuscenes_infos_train.pkl')
    for info in content['data_list']:
        info['instances'] = [o for o in info['instances'] if kept(o['bbox_label_3d'])]
    save_info_file(content, tmp_path / 'infos.pkl')
    dataset = build_dataset(
        'nuscenes_lidar', ann_file=str(tmp_path / 'infos.pkl'), metainfo={'classes': CLASSES}
    )
    with pytest.raises(DataError, match=message) as caught:
        balanced(dataset)
    for way_out in ('metainfo.classes', 'num_classes', 'remove the wrapper'):
        assert way_out in str(caught.value)
