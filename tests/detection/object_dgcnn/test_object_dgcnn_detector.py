import pytest
import torch
from mmengine.registry import init_default_scope

from ciba_bev.registry import MODELS

RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
VOXEL = [0.8, 0.8, 8]
CELLS = 128
CAR = [20.0, -10.0, -1.0, 4.0, 2.0, 1.6, 0.0, 0.0, 0.0]


@pytest.fixture
def detector():
    init_default_scope('mmdet3d')
    torch.manual_seed(0)
    norm = dict(type='BN', eps=1e-3, momentum=0.01)
    return MODELS.build(
        dict(
            type='ciba_bev.ObjectDGCNN',
            data_preprocessor=dict(
                type='ciba_bev.DetectionDataPreprocessor',
                voxel=True,
                voxel_layer=dict(
                    max_num_points=8,
                    voxel_size=VOXEL,
                    max_voxels=[2000, 2000],
                    point_cloud_range=RANGE,
                ),
            ),
            pts_voxel_encoder=dict(
                type='PillarFeatureNet',
                in_channels=4,
                feat_channels=[8],
                voxel_size=VOXEL,
                point_cloud_range=RANGE,
                legacy=False,
            ),
            pts_middle_encoder=dict(
                type='PointPillarsScatter', in_channels=8, output_shape=[CELLS, CELLS]
            ),
            pts_backbone=dict(
                type='SECOND',
                in_channels=8,
                out_channels=[8, 16],
                layer_nums=[0, 0],
                layer_strides=[2, 2],
                norm_cfg=norm,
            ),
            pts_neck=dict(type='mmdet.FPN', in_channels=[8, 16], out_channels=16, num_outs=2),
            pts_bbox_head=dict(
                type='ciba_bev.ObjectDGCNNHead',
                num_classes=3,
                embed_dims=16,
                num_levels=2,
                num_query=10,
                point_cloud_range=RANGE,
                encoder_layers=1,
                decoder_layers=2,
                num_heads=2,
                num_points=2,
                feedforward_channels=32,
                num_neighbors=4,
                dropout=0.0,
            ),
        )
    )


def cluster(box, count=60):
    """Points within a box (yaw zero), with reflectance."""
    spread = torch.rand(count, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    points = torch.tensor(box[:3]) + spread * torch.tensor(box[3:6])
    return torch.cat((points, torch.full((count, 1), 0.5)), dim=1)


def prepare(detector, points, samples=None, training=False):
    samples = samples or [None] * len(points)
    data = dict(inputs=dict(points=points), data_samples=samples)
    if samples[0] is None:
        data.pop('data_samples')
    return detector.data_preprocessor(data, training)


def test_rows_are_y_and_columns_are_x(detector):
    """One car in an empty world lights up the pillars it stands on, and the BEV map there."""
    detector.eval()
    canvases = []
    detector.pts_middle_encoder.register_forward_hook(
        lambda module, inputs, output: canvases.append(output)
    )
    elsewhere = torch.tensor([[-45.0, 45.0, 0.0, 0.5]])
    with torch.no_grad():
        empty = prepare(detector, [elsewhere])['inputs']
        with_car = prepare(detector, [torch.cat((elsewhere, cluster(CAR)))])['inputs']
        _, before = detector.extract_feat(empty, [])
        _, after = detector.extract_feat(with_car, [])
    lit = (canvases[1] - canvases[0]).abs().sum(1)[0].nonzero()
    # x from 18 to 22 m are columns 86 to 91, y from -11 to -9 m rows 50 to 52.
    assert lit.amin(0).tolist() == [50, 86]
    assert lit.amax(0).tolist() == [52, 91]

    change = (after[0] - before[0]).abs().sum(1)[0]
    assert change.shape == (CELLS // 2, CELLS // 2)
    row, column = divmod(int(change.argmax()), CELLS // 2)
    assert abs((column + 0.5) * 1.6 - 51.2 - 20) < 3.2
    assert abs((row + 0.5) * 1.6 - 51.2 + 10) < 2.4


def test_training_and_prediction(detector, make_sample):
    samples = [make_sample([CAR], [0]), make_sample()]
    points = [cluster(CAR), cluster([-30.0, 5.0, 0.0, 3.0, 3.0, 3.0])]
    batch = prepare(detector, points, samples, training=True)
    losses = detector.train().loss(batch['inputs'], batch['data_samples'])
    assert set(losses) == {'d0.loss_cls', 'd0.loss_bbox', 'loss_cls', 'loss_bbox'}
    sum(losses.values()).backward()
    assert [name for name, value in detector.named_parameters() if value.grad is None] == []

    with torch.no_grad():
        results = detector.eval().predict(batch['inputs'], batch['data_samples'])
    for result in results:
        assert result.pred_instances_3d.bboxes_3d.tensor.shape[1] == 9
        assert 0 < len(result.pred_instances_3d.scores_3d) <= 30


def test_a_sample_without_points_in_range_is_an_empty_map(detector):
    detector.eval()
    far = torch.tensor([[500.0, 0.0, 0.0, 0.5]])
    batch = prepare(detector, [cluster(CAR), far])
    with torch.no_grad():
        _, levels = detector.extract_feat(batch['inputs'], [])
        _, alone = detector.extract_feat(prepare(detector, [cluster(CAR)])['inputs'], [])
    assert levels[0].shape[0] == 2
    torch.testing.assert_close(levels[0][:1], alone[0])


def test_mixed_precision_stays_close(detector, make_sample):
    samples = [make_sample([CAR], [0]), make_sample([CAR], [1])]
    points = [cluster(CAR), cluster(CAR, 30)]
    batch = prepare(detector, points, samples, training=True)
    detector.eval()  # so that the two passes normalise alike
    exact = detector.loss(batch['inputs'], batch['data_samples'])
    with torch.autocast('cpu', torch.bfloat16):
        losses = detector.loss(batch['inputs'], batch['data_samples'])
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(exact[name].item(), rel=0.1)
    sum(losses.values()).backward()
    assert all(torch.isfinite(value.grad).all() for value in detector.parameters())
