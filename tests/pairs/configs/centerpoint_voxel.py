"""Model config: mmdet3d's own CenterPoint on voxels, a map of 16 x 16 cells of 6.4 m."""

_base_ = ['mmdet3d::_base_/models/centerpoint_voxel01_second_secfpn_nus.py']
default_scope = 'mmdet3d'

bounds = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
cell = [0.8, 0.8, 0.2]

model = dict(
    data_preprocessor=dict(voxel_layer=dict(voxel_size=cell, point_cloud_range=bounds)),
    pts_middle_encoder=dict(
        sparse_shape=[41, 128, 128],
        base_channels=4,
        output_channels=8,
        encoder_channels=((4, 4, 8), (8, 8, 8), (8, 8, 8), (8, 8)),
    ),
    pts_backbone=dict(in_channels=16, out_channels=[16, 16], layer_nums=[1, 1]),
    pts_neck=dict(in_channels=[16, 16], out_channels=[8, 8]),
    pts_bbox_head=dict(
        in_channels=16,
        bbox_coder=dict(voxel_size=cell[:2], pc_range=bounds[:2]),
    ),
    test_cfg=dict(pts=dict(voxel_size=cell[:2], nms_type='circle')),
)
