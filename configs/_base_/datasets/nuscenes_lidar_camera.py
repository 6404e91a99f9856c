"""nuScenes, ten LiDAR sweeps and six cameras in one pipeline. For distillation.

Validation and test are the student's, cameras only. LiDAR points and boxes are not rotated, scaled
or flipped, because the images are not. For a student with history add to the training and
validation data what nuscenes_camera_sequence.py adds.
"""

_base_ = ['./nuscenes_camera.py']

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
point_cloud_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
backend_args = None

train_pipeline = [
    dict(
        type='LoadPointsFromFile',
        coord_type='LIDAR',
        load_dim=5,
        use_dim=5,
        backend_args=backend_args,
    ),
    dict(
        type='LoadPointsFromMultiSweeps',
        sweeps_num=9,
        load_dim=5,
        use_dim=[0, 1, 2, 3, 4],
        pad_empty_sweeps=True,
        remove_close=True,
        backend_args=backend_args,
    ),
    dict(
        type='LoadMultiViewImageFromFiles', to_float32=True, num_views=6, backend_args=backend_args
    ),
    dict(
        type='MultiViewWrapper',
        override_aug_config=False,
        collected_keys=[],
        transforms=[dict(type='PhotoMetricDistortion3D')],
    ),
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(type='PointsRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='ObjectRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='ObjectNameFilter', classes=class_names),
    dict(type='PointShuffle'),
    dict(
        type='Pack3DDetInputs',
        keys=['points', 'img', 'gt_bboxes_3d', 'gt_labels_3d'],
        meta_keys=(
            'sample_idx',
            'token',
            'scene_token',
            'prev',
            'box_type_3d',
            'box_mode_3d',
            'num_pts_feats',
            'lidar_path',
            'ori_shape',
            'img_shape',
            'pad_shape',
            'scale_factor',
            'cam2img',
            'lidar2cam',
            'ego2global',
            'can_bus',
        ),
    ),
]

train_dataloader = dict(
    dataset=dict(pipeline=train_pipeline, modality=dict(use_lidar=True, use_camera=True))
)
