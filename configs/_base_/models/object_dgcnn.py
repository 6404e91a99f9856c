"""What the Object-DGCNN models share: everything behind the voxels."""

bev_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
second_norm = dict(type='BN', eps=1e-3, momentum=0.01)

model = dict(
    type='ciba_bev.ObjectDGCNN',
    data_preprocessor=dict(
        type='ciba_bev.DetectionDataPreprocessor',
        voxel=True,
        voxel_layer=dict(point_cloud_range=bev_range),
    ),
    pts_backbone=dict(
        type='SECOND', norm_cfg=second_norm, conv_cfg=dict(type='Conv2d', bias=False)
    ),
    pts_neck=dict(
        type='mmdet.FPN',
        norm_cfg=second_norm,
        act_cfg=dict(type='ReLU'),
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
