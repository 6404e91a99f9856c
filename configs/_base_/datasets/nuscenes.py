"""nuScenes: classes, range, scoring, and the pipelines of cameras and of both sensors.

Data loaders are those of a single-frame camera student.
"""

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

load_points = dict(
    type='LoadPointsFromFile', coord_type='LIDAR', load_dim=5, use_dim=5, backend_args=backend_args
)
# Nine past sweeps and the key frame make ten. The fifth feature becomes the time lag. In training
# the sweeps are drawn at random where there are more, in testing they are the latest. mmdet3d's
# transform of this name misplaces the sweeps of a turning vehicle (docs/nuscenes.md).
load_sweeps = dict(
    type='ciba_bev.LoadPointsFromMultiSweeps',
    sweeps_num=9,
    load_dim=5,
    use_dim=[0, 1, 2, 3, 4],
    pad_empty_sweeps=True,
    remove_close=True,
    backend_args=backend_args,
)
load_latest_sweeps = dict(load_sweeps, test_mode=True)
# Images stay uint8; the data preprocessor distorts, normalizes and pads them.
load_images = dict(
    type='ciba_bev.LoadMultiViewImageFromFiles', num_views=6, backend_args=backend_args
)
# Intrinsics are scaled with the images. "transforms" gives the scale.
resize_images = dict(type='MultiViewWrapper', collected_keys=['scale_factor', 'img_shape'])
load_boxes = dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True)

input_modality = dict(use_lidar=False, use_camera=True)
both_sensors = dict(use_lidar=True, use_camera=True)
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

# Cameras.
load_train_images = [load_images]
camera_targets = [
    load_boxes,
    dict(type='ObjectRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='ObjectNameFilter', classes=class_names),
    dict(
        type='ciba_bev.Pack3DDetInputs',
        keys=['img', 'gt_bboxes_3d', 'gt_labels_3d'],
        meta_keys=pack_meta_keys,
    ),
]
pack_images = dict(type='ciba_bev.Pack3DDetInputs', keys=['img'], meta_keys=pack_meta_keys)
train_pipeline = [*load_train_images, *camera_targets]
test_pipeline = [load_images, pack_images]

# Distillation: ten LiDAR sweeps and six cameras. LiDAR points and boxes are not rotated, scaled or
# flipped, because the images are not.
load_train_points = [load_points, load_sweeps]
lidar_camera_targets = [
    load_boxes,
    dict(type='PointsRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='ObjectRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='ObjectNameFilter', classes=class_names),
    dict(type='PointShuffle'),
    dict(
        type='ciba_bev.Pack3DDetInputs',
        keys=['points', 'img', 'gt_bboxes_3d', 'gt_labels_3d'],
        meta_keys=pack_meta_keys,
    ),
]
lidar_camera_pipeline = [*load_train_points, *load_train_images, *lidar_camera_targets]

# Algorithm 1: the same without augmentation. Both models are frozen and give the features that they
# give in use.
load_latest_points = [load_points, load_latest_sweeps]
pack_features = [
    dict(type='PointsRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='ciba_bev.Pack3DDetInputs', keys=['points', 'img'], meta_keys=pack_meta_keys),
]
feature_pipeline = [*load_latest_points, load_images, *pack_features]

# For temporal students, in place of single frames.
train_sequences = dict(type='ciba_bev.NuScenesSequenceDataset', queue_length=4)
test_sequences = dict(type='ciba_bev.NuScenesSequenceDataset')
frames = dict(
    type=dataset_type,
    data_root=data_root,
    metainfo=metainfo,
    data_prefix=data_prefix,
    box_type_3d='LiDAR',
    modality=input_modality,
    backend_args=backend_args,
)
train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        **frames,
        ann_file='nuscenes_infos_train.pkl',
        pipeline=train_pipeline,
        use_valid_flag=True,
        test_mode=False,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    # Every frame once, and scenes whole: scores are the same on any number of processes, also of
    # students that carry their BEV map from frame to frame.
    sampler=dict(type='ciba_bev.SceneSequenceSampler'),
    dataset=dict(
        **frames, ann_file='nuscenes_infos_val.pkl', pipeline=test_pipeline, test_mode=True
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='ciba_bev.NuScenesDetectionMetric',
    data_root=data_root,
    ann_file=data_root + 'nuscenes_infos_val.pkl',
    metric='bbox',
    modality=input_modality,
    backend_args=backend_args,
)
test_evaluator = val_evaluator
