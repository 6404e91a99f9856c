"""Object-DGCNN on 0.2 m pillars. Its second BEV level, not its first, is 128 x 128 x 256."""

_base_ = ['./object_dgcnn.py']

voxel_size = [0.2, 0.2, 8]

model = dict(
    # Published Object-DGCNNs start from a trained LiDAR backbone. This one is the pillar encoder
    # and the 2D backbone of mmdet3d's CenterPoint. With init_cfg=None all starts at random.
    init_cfg=dict(
        type='Pretrained',
        checkpoint='https://download.openmmlab.com/mmdetection3d/v1.0.0_models/centerpoint/'
        'centerpoint_02pillar_second_secfpn_circlenms_4x8_cyclic_20e_nus/'
        'centerpoint_02pillar_second_secfpn_circlenms_4x8_cyclic_20e_nus_20220811_031844-191a3822.pth',
        parts=['pts_voxel_encoder', 'pts_backbone'],
    ),
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
