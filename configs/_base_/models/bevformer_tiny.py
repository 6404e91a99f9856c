"""BEVFormer-tiny: one image level, grid of 50 x 50."""

_base_ = ['./bevformer_r50.py']

model = dict(
    img_backbone=dict(out_indices=(3,), norm_cfg=dict(type='BN', requires_grad=False)),
    img_neck=dict(in_channels=[2048], num_outs=1),
    pts_bbox_head=dict(
        bev_h=50,
        bev_w=50,
        num_levels=1,
        encoder_layers=3,
        # Rotation centre of the reference implementation, in cells, for every grid: the published
        # weights expect it.
        rotate_center=[100, 100],
    ),
)
