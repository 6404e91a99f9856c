"""Model config: our Object-DGCNN on pillars, a finest map of 32 x 32 cells of 2.5 m."""

_base_ = ['../../../configs/quickstart_object_dgcnn.py']

cell = [1.25, 1.25, 8]

model = dict(
    data_preprocessor=dict(voxel_layer=dict(voxel_size=cell)),
    pts_voxel_encoder=dict(feat_channels=[16], voxel_size=cell),
    pts_middle_encoder=dict(in_channels=16, output_shape=[64, 64]),
    pts_backbone=dict(in_channels=16, out_channels=[16, 16], layer_nums=[1, 1]),
    pts_neck=dict(in_channels=[16, 16], out_channels=16),
    pts_bbox_head=dict(
        embed_dims=16, num_query=20, num_heads=2, decoder_layers=1, feedforward_channels=32
    ),
)
