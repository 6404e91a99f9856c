"""Model config: lifted cameras and LiDAR pillars in one map of 24 x 24 cells of 4.27 m."""

_base_ = ['lift_splat.py']

bounds = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
cell = [102.4 / 24, 102.4 / 24, 8.0]

model = dict(
    type='lift_splat_detector.CameraLidarDetector',
    data_preprocessor=dict(
        voxel=True,
        voxel_layer=dict(
            max_num_points=12, max_voxels=[576, 576], voxel_size=cell, point_cloud_range=bounds
        ),
    ),
    point_cloud_range=bounds,
    bev_size=(24, 24),
    pts_voxel_encoder=dict(
        type='mmdet3d.PillarFeatureNet',
        in_channels=5,
        feat_channels=[8],
        voxel_size=cell,
        point_cloud_range=bounds,
        legacy=False,
    ),
    pts_middle_encoder=dict(
        type='mmdet3d.PointPillarsScatter', in_channels=8, output_shape=(24, 24)
    ),
    pts_channels=8,
)
load_both = [
    {{_base_.load_points}},
    {{_base_.load_images}},
    dict(type='Pack3DDetInputs', keys=['points', 'img'], meta_keys={{_base_.pack_meta_keys}}),
]
val_dataloader = dict(
    dataset=dict(pipeline=load_both, modality=dict(use_lidar=True, use_camera=True))
)
test_dataloader = val_dataloader
