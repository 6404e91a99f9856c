"""BEVFormer-base: ResNet-101 with deformable convolutions, grid of 200 x 200."""

_base_ = ['./bevformer_r50.py']

model = dict(
    # Statistics of detectron2's caffe-style ResNets: BGR, unscaled.
    data_preprocessor=dict(mean=[103.530, 116.280, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    img_backbone=dict(
        depth=101,
        style='caffe',
        norm_cfg=dict(type='BN', requires_grad=False),
        dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, False, True, True),
        init_cfg=dict(checkpoint='pretrained/fcos3d_r101.pth', prefix='img_backbone.'),
    ),
    pts_bbox_head=dict(bev_h=200, bev_w=200),
)
