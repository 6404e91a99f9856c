"""nuScenes, six cameras, frame by frame. For a student without history."""

_base_ = ['./nuscenes.py']

input_modality = dict(use_lidar=False, use_camera=True)
pack_meta_keys = (
    'sample_idx',
    'token',
    'scene_token',
    'prev',
    'box_type_3d',
    'box_mode_3d',
    'ori_shape',
    'img_shape',
    'pad_shape',
    'scale_factor',
    'cam2img',
    'lidar2cam',
    'ego2global',
    'can_bus',
)
train_pipeline = [
    {{_base_.load_images}},
    {{_base_.load_boxes}},
    dict(type='ObjectRangeFilter', point_cloud_range={{_base_.point_cloud_range}}),
    dict(type='ObjectNameFilter', classes={{_base_.class_names}}),
    dict(
        type='Pack3DDetInputs',
        keys=['img', 'gt_bboxes_3d', 'gt_labels_3d'],
        meta_keys=pack_meta_keys,
    ),
]
test_pipeline = [
    {{_base_.load_images}},
    dict(type='Pack3DDetInputs', keys=['img'], meta_keys=pack_meta_keys),
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline, modality=input_modality))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline, modality=input_modality))
test_dataloader = val_dataloader
val_evaluator = dict(modality=input_modality)
test_evaluator = val_evaluator
