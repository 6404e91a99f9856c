"""nuScenes, six cameras, frame by frame. For a student without history."""

dataset_type = 'ciba_bev.NuScenesFrameDataset'
data_root = 'data/nuscenes/'
class_names = [
    'car',
    'truck',
    'construction_vehicle',
    'bus',
    'trailer',
    'barrier',
    'motorcycle',
    'bicycle',
    'pedestrian',
    'traffic_cone',
]
metainfo = dict(classes=class_names)
point_cloud_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
input_modality = dict(use_lidar=False, use_camera=True)
data_prefix = dict(
    pts='samples/LIDAR_TOP',
    sweeps='sweeps/LIDAR_TOP',
    CAM_FRONT='samples/CAM_FRONT',
    CAM_FRONT_RIGHT='samples/CAM_FRONT_RIGHT',
    CAM_FRONT_LEFT='samples/CAM_FRONT_LEFT',
    CAM_BACK='samples/CAM_BACK',
    CAM_BACK_LEFT='samples/CAM_BACK_LEFT',
    CAM_BACK_RIGHT='samples/CAM_BACK_RIGHT',
)
backend_args = None

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
# Padding to a multiple of 32 and normalization are the data preprocessor's.
train_pipeline = [
    dict(
        type='LoadMultiViewImageFromFiles', to_float32=True, num_views=6, backend_args=backend_args
    ),
    # Each camera is distorted by itself. Nothing is collected: the wrapper would first empty the
    # image shapes that loading has noted.
    dict(
        type='MultiViewWrapper',
        override_aug_config=False,
        collected_keys=[],
        transforms=[dict(type='PhotoMetricDistortion3D')],
    ),
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(type='ObjectRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='ObjectNameFilter', classes=class_names),
    dict(
        type='Pack3DDetInputs',
        keys=['img', 'gt_bboxes_3d', 'gt_labels_3d'],
        meta_keys=pack_meta_keys,
    ),
]
test_pipeline = [
    dict(type='LoadMultiViewImageFromFiles', num_views=6, backend_args=backend_args),
    dict(type='Pack3DDetInputs', keys=['img'], meta_keys=pack_meta_keys),
]

train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='nuscenes_infos_train.pkl',
        pipeline=train_pipeline,
        metainfo=metainfo,
        modality=input_modality,
        data_prefix=data_prefix,
        use_valid_flag=True,
        test_mode=False,
        box_type_3d='LiDAR',
        backend_args=backend_args,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='nuscenes_infos_val.pkl',
        pipeline=test_pipeline,
        metainfo=metainfo,
        modality=input_modality,
        data_prefix=data_prefix,
        test_mode=True,
        box_type_3d='LiDAR',
        backend_args=backend_args,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type='NuScenesMetric',
    data_root=data_root,
    ann_file=data_root + 'nuscenes_infos_val.pkl',
    metric='bbox',
    modality=input_modality,
    backend_args=backend_args,
)
test_evaluator = val_evaluator
