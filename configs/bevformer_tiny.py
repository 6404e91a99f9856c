"""BEVFormer-tiny as published: images at half their size, one image level, grid of 50 x 50.

Its published weights, converted by tools/convert_checkpoint.py --model bevformer, load as they are.
"""

_base_ = ['bevformer_r50.py']

model = dict(
    img_backbone=dict(out_indices=(3,), norm_cfg=dict(type='BN', requires_grad=False)),
    img_neck=dict(in_channels=[2048], num_outs=1),
    pts_bbox_head=dict(
        bev_h=50,
        bev_w=50,
        num_levels=1,
        encoder_layers=3,
        # Where the reference turns the previous map, whatever the grid: its weights expect it.
        rotate_center=[100, 100],
    ),
)

# Intrinsics are scaled with the images.
resize_images = dict(
    type='MultiViewWrapper',
    collected_keys=['scale_factor', 'img_shape'],
    transforms=[dict(type='Resize3D', scale_factor=0.5, keep_ratio=True)],
)
train_pipeline = [
    {{_base_.load_images}},
    resize_images,
    {{_base_.load_boxes}},
    dict(type='ObjectRangeFilter', point_cloud_range={{_base_.point_cloud_range}}),
    dict(type='ObjectNameFilter', classes={{_base_.class_names}}),
    dict(
        type='Pack3DDetInputs',
        keys=['img', 'gt_bboxes_3d', 'gt_labels_3d'],
        meta_keys={{_base_.pack_meta_keys}},
    ),
]
test_pipeline = [
    {{_base_.load_images}},
    resize_images,
    dict(type='Pack3DDetInputs', keys=['img'], meta_keys={{_base_.pack_meta_keys}}),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, queue_length=3))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
