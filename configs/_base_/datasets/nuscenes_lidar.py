"""nuScenes, LiDAR only: ten sweeps, class-balanced sampling. For the teacher."""

_base_ = ['./nuscenes.py']

input_modality = dict(use_lidar=True, use_camera=False)
pack_meta_keys = (
    'sample_idx',
    'token',
    'box_type_3d',
    'box_mode_3d',
    'num_pts_feats',
    'lidar_path',
    'ego2global',
    'pcd_rotation',
    'pcd_scale_factor',
    'pcd_trans',
    'pcd_horizontal_flip',
    'pcd_vertical_flip',
    'transformation_3d_flow',
)
rotate_and_scale = dict(
    type='GlobalRotScaleTrans',
    rot_range=[-0.3925, 0.3925],
    scale_ratio_range=[0.95, 1.05],
    translation_std=[0, 0, 0],
)
flip = dict(
    type='RandomFlip3D',
    sync_2d=False,
    flip_ratio_bev_horizontal=0.5,
    flip_ratio_bev_vertical=0.5,
)
train_pipeline = [
    {{_base_.load_points}},
    {{_base_.load_sweeps}},
    {{_base_.load_boxes}},
    rotate_and_scale,
    flip,
    dict(type='PointsRangeFilter', point_cloud_range={{_base_.point_cloud_range}}),
    dict(type='ObjectRangeFilter', point_cloud_range={{_base_.point_cloud_range}}),
    dict(type='ObjectNameFilter', classes={{_base_.class_names}}),
    dict(type='PointShuffle'),
    dict(
        type='Pack3DDetInputs',
        keys=['points', 'gt_bboxes_3d', 'gt_labels_3d'],
        meta_keys=pack_meta_keys,
    ),
]
test_pipeline = [
    {{_base_.load_points}},
    {{_base_.load_latest_sweeps}},
    dict(type='PointsRangeFilter', point_cloud_range={{_base_.point_cloud_range}}),
    dict(type='Pack3DDetInputs', keys=['points'], meta_keys=pack_meta_keys),
]

train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        _delete_=True,
        type='ciba_bev.CBGSDataset',
        dataset=dict(
            type={{_base_.dataset_type}},
            data_root={{_base_.data_root}},
            ann_file='nuscenes_infos_train.pkl',
            pipeline=train_pipeline,
            metainfo={{_base_.metainfo}},
            modality=input_modality,
            data_prefix={{_base_.data_prefix}},
            use_valid_flag=True,
            test_mode=False,
            box_type_3d='LiDAR',
            backend_args={{_base_.backend_args}},
        ),
    ),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline, modality=input_modality))
test_dataloader = val_dataloader
val_evaluator = dict(modality=input_modality)
test_evaluator = val_evaluator
