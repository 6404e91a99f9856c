"""Detectors of mmdet3d as they are, on a real frame: the same with either extension."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import mmdet3d
import numpy as np
import pytest
import torch
from mmdet3d.registry import MODELS
from mmdet3d.structures import CameraInstance3DBoxes, Det3DDataSample, LiDARInstance3DBoxes
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

CONFIGS = Path(mmdet3d.__file__).parent / '.mim' / 'configs'
# With the number of values of a point.
LIDAR_DETECTORS = {
    'CenterPoint with pillars': (
        'centerpoint/centerpoint_pillar02_second_secfpn_8xb4-cyclic-20e_nus-3d.py',
        5,
    ),
    'CenterPoint with voxels': (
        'centerpoint/centerpoint_voxel01_second_secfpn_8xb4-cyclic-20e_nus-3d.py',
        5,
    ),
    'PointPillars': ('pointpillars/pointpillars_hv_fpn_sbn-all_8xb4-2x_nus-3d.py', 4),
}
FCOS3D = 'fcos3d/fcos3d_r101-caffe-dcn_fpn_head-gn_8xb2-1x_nus-mono3d.py'

pytestmark = pytest.mark.skipif(
    not CONFIGS.is_dir(), reason='this mmdet3d was installed without its configs'
)


def build(config: str) -> torch.nn.Module:
    """A detector with random weights, which score every box high enough to be predicted."""
    init_default_scope('mmdet3d')
    model = Config.fromfile(CONFIGS / config).model
    for part in ('backbone', 'img_backbone'):
        if part in model:
            model[part].init_cfg = None
    tests = model.test_cfg.get('pts', model.test_cfg)
    tests.score_thr = 0.0
    coder = (model.get('pts_bbox_head') or model.bbox_head).bbox_coder
    if 'score_threshold' in coder:
        coder.score_threshold = 0.0
    torch.manual_seed(0)
    detector = MODELS.build(model)
    # Some deformation: the layers that say how much start at zero.
    for name, parameter in detector.named_parameters():
        if 'conv_offset' in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return detector


def info_of(folder: Path) -> dict:
    return pickle.loads(next(folder.glob('*.pkl')).read_bytes())['data_list'][0]


def lidar_sample(folder: Path, values: int) -> dict:
    info = info_of(folder)
    points = np.fromfile(folder / Path(info['lidar_points']['lidar_path']).name, np.float32)
    sample = Det3DDataSample(metainfo=dict(box_type_3d=LiDARInstance3DBoxes))
    objects = [o for o in info['instances'] if 0 <= o['bbox_label_3d'] < 10]
    boxes = torch.tensor([[*o['bbox_3d'], *o['velocity']] for o in objects]).nan_to_num()
    sample.gt_instances_3d = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9, origin=(0.5, 0.5, 0.5)),
        labels_3d=torch.tensor([o['bbox_label_3d'] for o in objects]),
    )
    points = torch.from_numpy(points).view(-1, 5)[:, :values].contiguous()
    return dict(inputs=dict(points=[points]), data_samples=[sample])


def camera_sample(folder: Path) -> dict:
    camera = info_of(folder)['images']['CAM_FRONT']
    image = cv2.imread(str(folder / Path(camera['img_path']).name))
    image = cv2.resize(image, (400, 225), interpolation=cv2.INTER_AREA)
    intrinsics = np.array(camera['cam2img'])
    intrinsics[:2] /= 4
    sample = Det3DDataSample(
        metainfo=dict(
            box_type_3d=CameraInstance3DBoxes,
            cam2img=intrinsics.tolist(),
            scale_factor=1.0,
            img_shape=image.shape[:2],
        )
    )
    inputs = torch.from_numpy(image.transpose(2, 0, 1).copy())
    return dict(inputs=dict(img=[inputs]), data_samples=[sample])


def predict(detector: torch.nn.Module, sample: dict) -> InstanceData:
    detector.eval()
    with torch.no_grad():
        return detector.test_step(sample)[0].pred_instances_3d


def assert_same_boxes(got: InstanceData, expected: InstanceData) -> None:
    assert len(expected) > 20
    assert torch.equal(got.labels_3d, expected.labels_3d)
    torch.testing.assert_close(got.scores_3d, expected.scores_3d, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        got.bboxes_3d.tensor, expected.bboxes_3d.tensor, rtol=1e-4, atol=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize('name', LIDAR_DETECTORS)
def test_lidar_detectors_predict_the_same_boxes(compiled, use_ours_in_mmcv, real_frame, name):
    if 'voxels' in name:
        pytest.importorskip('spconv')
    config, values = LIDAR_DETECTORS[name]
    detector = build(config)
    expected = predict(detector, lidar_sample(real_frame, values))
    use_ours_in_mmcv()
    assert_same_boxes(predict(detector, lidar_sample(real_frame, values)), expected)


@pytest.mark.slow
def test_a_camera_detector_predicts_the_same_boxes(compiled, use_ours_in_mmcv, real_frame):
    detector = build(FCOS3D)
    expected = predict(detector, camera_sample(real_frame))
    use_ours_in_mmcv()
    assert_same_boxes(predict(detector, camera_sample(real_frame)), expected)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['CenterPoint with pillars', 'PointPillars'])
def test_lidar_detectors_train(ours_in_mmcv, real_frame, name):
    config, values = LIDAR_DETECTORS[name]
    detector = build(config).train()
    sample = detector.data_preprocessor(lidar_sample(real_frame, values), training=True)
    losses = detector(**sample, mode='loss')
    loss, _ = detector.parse_losses(losses)
    loss.backward()
    assert loss.isfinite()
    for parameter in detector.pts_voxel_encoder.parameters():
        assert parameter.grad.abs().max() > 0
