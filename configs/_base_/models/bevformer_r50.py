"""BEVFormer with a ResNet-50: the paper's student. BEV map 128 x 128 x 256."""

bev_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]

model = dict(
    type='ciba_bev.BEVFormer',
    num_cams=6,
    use_grid_mask=True,
    data_preprocessor=dict(
        type='ciba_bev.DetectionDataPreprocessor',
        # Training images only.
        photometric_distortion=dict(
            brightness_delta=32,
            contrast_range=[0.5, 1.5],
            saturation_range=[0.5, 1.5],
            hue_delta=18,
        ),
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    img_backbone=dict(
        type='mmdet.ResNet',
        depth=50,
        num_stages=4,
        out_indices=(1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=True,
        style='pytorch',
        with_cp=False,
        # torchvision's ImageNet weights, by address, so that torchvision itself is not needed.
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.pytorch.org/models/resnet50-0676ba61.pth',
        ),
    ),
    img_neck=dict(
        type='mmdet.FPN',
        in_channels=[512, 1024, 2048],
        out_channels=256,
        start_level=0,
        add_extra_convs='on_output',
        num_outs=4,
        relu_before_extra_convs=True,
    ),
    pts_bbox_head=dict(
        type='ciba_bev.BEVFormerHead',
        num_classes=10,
        embed_dims=256,
        num_query=900,
        bev_h=128,
        bev_w=128,
        point_cloud_range=bev_range,
        num_cams=6,
        num_levels=4,
        encoder_layers=6,
        decoder_layers=6,
        num_spatial_points=8,
        num_points_in_pillar=4,
        feedforward_channels=512,
        # True recomputes the layers in the backward pass instead of keeping their activations.
        with_cp=False,
    ),
)
