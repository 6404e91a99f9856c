"""Object-DGCNN on 0.1 m voxels: the paper's teacher. First BEV level 128 x 128 x 256."""

bev_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
voxel_size = [0.1, 0.1, 0.2]
second_norm = dict(type='BN', eps=1e-3, momentum=0.01)

model = dict(
    type='ciba_bev.ObjectDGCNN',
    data_preprocessor=dict(
        type='Det3DDataPreprocessor',
        voxel=True,
        voxel_layer=dict(
            max_num_points=10,
            voxel_size=voxel_size,
            max_voxels=[90000, 120000],  # training, testing
            point_cloud_range=bev_range,
        ),
    ),
    pts_voxel_encoder=dict(type='HardSimpleVFE', num_features=5),
    pts_middle_encoder=dict(
        type='SparseEncoder',
        in_channels=5,
        sparse_shape=[41, 1024, 1024],
        output_channels=128,
        order=('conv', 'norm', 'act'),
        encoder_channels=((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)),
        encoder_paddings=((0, 0, 1), (0, 0, 1), (0, 0, [0, 1, 1]), (0, 0)),
        block_type='basicblock',
    ),
    pts_backbone=dict(
        type='SECOND',
        in_channels=256,
        out_channels=[128, 256],
        layer_nums=[5, 5],
        layer_strides=[1, 2],
        norm_cfg=second_norm,
        conv_cfg=dict(type='Conv2d', bias=False),
    ),
    pts_neck=dict(
        type='mmdet.FPN',
        norm_cfg=second_norm,
        act_cfg=dict(type='ReLU'),
        in_channels=[128, 256],
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
