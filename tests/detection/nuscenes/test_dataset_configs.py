import numpy as np
import pytest
from mmdet3d.evaluation import NuScenesMetric
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATA_SAMPLERS
from torch import tensor, uint8
from torch.utils.data import DataLoader

NAMES = [
    'nuscenes_lidar',
    'nuscenes_camera',
    'nuscenes_camera_sequence',
    'nuscenes_lidar_camera',
]
CLASSES = (
    'car truck construction_vehicle bus trailer barrier motorcycle bicycle pedestrian traffic_cone'
)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('split', ['train', 'val'])
def test_a_batch_has_what_the_models_read(build_dataset, dataset_file, name, split):
    dataset = build_dataset(name, split)
    config = dataset_file(name)[f'{split}_dataloader']
    loader = DataLoader(
        dataset,
        batch_size=2,
        sampler=DATA_SAMPLERS.build({**config.sampler, 'dataset': dataset, 'seed': 0}),
        collate_fn=pseudo_collate,
    )
    batch = next(iter(loader))
    sample = batch['data_samples'][0]
    assert dataset.metainfo['classes'] == CLASSES.split()
    lidar = name == 'nuscenes_lidar' or (name == 'nuscenes_lidar_camera' and split == 'train')
    assert ('points' in batch['inputs']) == lidar
    assert ('img' in batch['inputs']) == (name != 'nuscenes_lidar')
    assert {'token', 'sample_idx', 'box_type_3d', 'ego2global'} <= set(sample.metainfo)
    if lidar:
        points = np.concatenate(batch['inputs']['points'])
        assert points.shape[1] == 5
        assert np.all(points[:, :3] > [-51.2, -51.2, -5])
        assert np.all(points[:, :3] < [51.2, 51.2, 3])
        # Key frame and past sweeps, told apart by their time lag in seconds.
        lags = np.unique(points[:, 4])
        assert lags[0] == 0
        assert len(lags) > 1
        assert lags[-1] < 5
    if name != 'nuscenes_lidar':
        frames = 4 if name == 'nuscenes_camera_sequence' and split == 'train' else 1
        images = batch['inputs']['img'][0]
        assert images.shape == (6 * frames, 3, 54, 96)
        # A quarter of what floats would take on their way to the device.
        assert images.dtype == uint8
        assert images.is_contiguous()
        assert {'img_shape', 'cam2img', 'lidar2cam', 'can_bus', 'scene_token'} <= set(
            sample.metainfo
        )
        assert len(sample.cam2img) == 6
    if split == 'train':
        boxes = sample.gt_instances_3d.bboxes_3d
        assert isinstance(boxes, LiDARInstance3DBoxes)
        assert boxes.tensor.shape[1] == 9
        assert len(boxes) == len(sample.gt_instances_3d.labels_3d) > 0
    else:
        assert sample.eval_ann_info is not None


@pytest.mark.parametrize('name', NAMES)
def test_loaders_are_sized_for_a_gpu(dataset_file, name):
    config = dataset_file(name)
    assert config.train_dataloader.batch_size == (4 if name == 'nuscenes_lidar' else 1)
    for split in ('train', 'val', 'test'):
        loader = config[f'{split}_dataloader']
        assert loader.num_workers == 4
        assert loader.persistent_workers
    assert config.test_dataloader == config.val_dataloader
    assert config.val_dataloader.batch_size == 1


def test_ground_truth_as_prediction_scores_full_marks(
    build_dataset, dataset_file, simulated_nuscenes
):
    dataset = build_dataset('nuscenes_lidar', 'val')
    config = dataset_file('nuscenes_lidar').val_evaluator
    metric = NuScenesMetric(
        data_root=str(simulated_nuscenes),
        ann_file=str(simulated_nuscenes / 'nuscenes_infos_val.pkl'),
        metric=config.metric,
    )
    metric.dataset_meta = dataset.metainfo
    classes = dataset.metainfo['classes']
    present = set()
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        truth = sample.eval_ann_info
        labels = tensor(truth['gt_labels_3d'])
        known = labels >= 0
        present |= {classes[label] for label in labels[known]}
        prediction = {
            'bboxes_3d': truth['gt_bboxes_3d'][known],
            'labels_3d': labels[known],
            'scores_3d': known[known].float(),
        }
        metric.process(
            {},
            [
                {
                    'pred_instances_3d': prediction,
                    'pred_instances': {},
                    'sample_idx': sample.sample_idx,
                }
            ],
        )
    scores = metric.evaluate(len(dataset))
    prefix = 'NuScenes metric/pred_instances_3d_NuScenes'
    precision = {name: scores[f'{prefix}/{name}_AP_dist_2.0'] for name in classes}
    assert {name for name, value in precision.items() if value > 0.95} == present
