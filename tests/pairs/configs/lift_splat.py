"""Model config: a camera detector that is not ours, a map of 32 x 24 cells of 2.5 m x 2.5 m."""

_base_ = ['../../../configs/quickstart_bevformer.py']
custom_imports = dict(imports=['ciba_bev', 'lift_splat_detector'])

bounds = [-30.0, -40.0, -5.0, 30.0, 40.0, 3.0]
tasks = [dict(num_class=10, class_names={{_base_.class_names}})]

model = dict(
    _delete_=True,
    type='lift_splat_detector.LiftSplatDetector',
    data_preprocessor={{_base_.model.data_preprocessor}},
    img_backbone=dict(
        type='mmdet.ResNet',
        depth=18,
        base_channels=8,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
        norm_eval=True,
        style='pytorch',
    ),
    img_channels=32,
    point_cloud_range=bounds,
    bev_size=(32, 24),
    bev_channels=16,
    bev_head=dict(
        type='mmdet3d.CenterHead',
        in_channels=16,
        tasks=tasks,
        share_conv_channel=16,
        common_heads=dict(reg=(2, 1), height=(1, 1), dim=(3, 1), rot=(2, 1), vel=(2, 1)),
        separate_head=dict(
            type='mmdet3d.SeparateHead', head_conv=16, init_bias=-2.19, final_kernel=1
        ),
        bbox_coder=dict(
            type='mmdet3d.CenterPointBBoxCoder',
            post_center_range=[-50, -50, -10, 50, 50, 10],
            max_num=50,
            score_threshold=0.0,
            code_size=9,
        ),
        loss_cls=dict(type='mmdet.GaussianFocalLoss', reduction='mean'),
        loss_bbox=dict(type='mmdet.L1Loss', reduction='mean', loss_weight=0.25),
        norm_bbox=True,
    ),
    train_cfg=dict(
        dense_reg=1,
        gaussian_overlap=0.1,
        max_objs=100,
        min_radius=1,
        code_weights=[1.0] * 10,
    ),
    test_cfg=dict(
        post_center_limit_range=[-50, -50, -10, 50, 50, 10],
        max_per_img=50,
        score_threshold=0.0,
        nms_type='circle',
        min_radius=[1.0],
        pre_max_size=50,
        post_max_size=50,
    ),
)
train_pipeline = [
    {{_base_.load_images}},
    {{_base_.load_boxes}},
    dict(type='ObjectRangeFilter', point_cloud_range=bounds),
    dict(type='ObjectNameFilter', classes={{_base_.class_names}}),
    dict(
        type='Pack3DDetInputs',
        keys=['img', 'gt_bboxes_3d', 'gt_labels_3d'],
        meta_keys={{_base_.pack_meta_keys}},
    ),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
default_hooks = dict(logger=dict(interval=1))
train_cfg = dict(max_epochs=1, val_begin=1, val_interval=1)
