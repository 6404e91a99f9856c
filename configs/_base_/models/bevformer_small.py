"""BEVFormer-small: one image level, grid of 150 x 150."""

_base_ = ['./bevformer_base.py']

model = dict(
    img_backbone=dict(out_indices=(3,), with_cp=True),
    img_neck=dict(in_channels=[2048], num_outs=1),
    pts_bbox_head=dict(
        bev_h=150,
        bev_w=150,
        num_levels=1,
        encoder_layers=3,
        # Rotation centre of the reference implementation, in cells, for every grid: the published
        # weights expect it.
        rotate_center=[100, 100],
    ),
)
