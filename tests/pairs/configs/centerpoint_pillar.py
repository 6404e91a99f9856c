"""Model config: mmdet3d's own CenterPoint on pillars, a map of 32 x 32 cells of 3.2 m."""

_base_ = ['mmdet3d::_base_/models/centerpoint_pillar02_second_secfpn_nus.py']
default_scope = 'mmdet3d'

bounds = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
cell = [1.6, 1.6, 8.0]

model = dict(
    data_preprocessor=dict(voxel_layer=dict(voxel_size=cell, point_cloud_range=bounds)),
    pts_voxel_encoder=dict(feat_channels=[16], voxel_size=cell, point_cloud_range=bounds),
    pts_middle_encoder=dict(in_channels=16, output_shape=(64, 64)),
    pts_backbone=dict(in_channels=16, out_channels=[16, 16, 16], layer_nums=[1, 1, 1]),
    pts_neck=dict(in_channels=[16, 16, 16], out_channels=[8, 8, 8]),
    pts_bbox_head=dict(
        in_channels=24,
        bbox_coder=dict(voxel_size=cell[:2], out_size_factor=2, pc_range=bounds[:2]),
    ),
    test_cfg=dict(pts=dict(voxel_size=cell[:2], out_size_factor=2, nms_type='circle')),
)
