"""Object-DGCNN on 0.2 m pillars. Its second BEV level, not its first, is 128 x 128 x 256."""

_base_ = ['./object_dgcnn.py']

voxel_size = [0.2, 0.2, 8]

model = dict(
    data_preprocessor=dict(
        voxel_layer=dict(
            max_num_points=20,
            voxel_size=voxel_size,
            max_voxels=[30000, 40000],  # training, testing
        )
    ),
    pts_voxel_encoder=dict(
        type='PillarFeatureNet',
        in_channels=5,
        feat_channels=[64],
        with_distance=False,
        voxel_size=voxel_size,
        point_cloud_range={{_base_.bev_range}},
        norm_cfg=dict(type='BN1d', eps=1e-3, momentum=0.01),
        legacy=False,
    ),
    pts_middle_encoder=dict(type='PointPillarsScatter', in_channels=64, output_shape=[512, 512]),
    pts_backbone=dict(
        in_channels=64, out_channels=[64, 128, 256], layer_nums=[3, 5, 5], layer_strides=[2, 2, 2]
    ),
    pts_neck=dict(in_channels=[64, 128, 256]),
)
