"""A small BEVFormer for simulated data. BEV feature 48 x 48 x 64."""

_base_ = ['./bevformer_r50.py']

bev_range = [-40.0, -40.0, -5.0, 40.0, 40.0, 3.0]
channels = 64

model = dict(
    use_grid_mask=False,
    data_preprocessor=dict(photometric_distortion=None, pad_size_divisor=16),
    img_backbone=dict(
        depth=18,
        base_channels=16,
        frozen_stages=-1,
        norm_eval=False,
        # There are no weights with this number of channels to start from.
        init_cfg=None,
    ),
    img_neck=dict(in_channels=[32, 64, 128], out_channels=channels, num_outs=3),
    # Cells of 1.67 m. The teacher's are finer; the two maps are matched in metres.
    pts_bbox_head=dict(
        embed_dims=channels,
        num_query=200,
        bev_h=48,
        bev_w=48,
        point_cloud_range=bev_range,
        num_levels=3,
        encoder_layers=2,
        decoder_layers=3,
        num_heads=4,
        num_spatial_points=4,
        feedforward_channels=2 * channels,
        dropout=0.0,
    ),
)
