"""Object-DGCNN on 0.2 m pillars. Its second BEV level, not its first, is 128 x 128 x 256."""

bev_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
voxel_size = [0.2, 0.2, 8]
second_norm = dict(type='BN', eps=1e-3, momentum=0.01)

model = dict(
    type='ciba_bev.ObjectDGCNN',
    data_preprocessor=dict(
        type='Det3DDataPreprocessor',
        voxel=True,
        voxel_layer=dict(
            max_num_points=20,
            voxel_size=voxel_size,
            max_voxels=[30000, 40000],  # training, testing
            point_cloud_range=bev_range,
        ),
    ),
    pts_voxel_encoder=dict(
        type='PillarFeatureNet',
        in_channels=5,
        feat_channels=[64],
        with_distance=False,
        voxel_size=voxel_size,
        point_cloud_range=bev_range,
        norm_cfg=dict(type='BN1d', eps=1e-3, momentum=0.01),
        legacy=False,
    ),
    pts_middle_encoder=dict(type='PointPillarsScatter', in_channels=64, output_shape=[512, 512]),
    pts_backbone=dict(
        type='SECOND',
        in_channels=64,
        out_channels=[64, 128, 256],
        layer_nums=[3, 5, 5],
        layer_strides=[2, 2, 2],
        norm_cfg=second_norm,
        conv_cfg=dict(type='Conv2d', bias=False),
    ),
    pts_neck=dict(
        type='mmdet.FPN',
        norm_cfg=second_norm,
        act_cfg=dict(type='ReLU'),
        in_channels=[64, 128, 256],
        out_channels=256,
        start_level=0,
        num_outs=4,
    ),
    pts_bbox_head=dict(
        type='ciba_bev.ObjectDGCNNHead',
        num_classes=10,
        embed_dims=256,
        num_levels=4,
        num_query=300,
        point_cloud_range=bev_range,
        encoder_layers=2,
        decoder_layers=6,
        feedforward_channels=512,
        self_attention='graph',
        num_neighbors=16,
    ),
)
