"""nuScenes, ten LiDAR sweeps and six cameras in one pipeline. For distillation.

Validation and test are the student's, cameras only. LiDAR points and boxes are not rotated, scaled
or flipped, because the images are not. For a student with history add to the training and
validation data what nuscenes_camera_sequence.py adds.
"""

_base_ = ['./nuscenes_camera.py']

train_pipeline = [
    {{_base_.load_points}},
    {{_base_.load_sweeps}},
    {{_base_.load_images}},
    {{_base_.load_boxes}},
    dict(type='PointsRangeFilter', point_cloud_range={{_base_.point_cloud_range}}),
    dict(type='ObjectRangeFilter', point_cloud_range={{_base_.point_cloud_range}}),
    dict(type='ObjectNameFilter', classes={{_base_.class_names}}),
    dict(type='PointShuffle'),
    dict(
        type='Pack3DDetInputs',
        keys=['points', 'img', 'gt_bboxes_3d', 'gt_labels_3d'],
        meta_keys={{_base_.pack_meta_keys}},
    ),
]

train_dataloader = dict(
    dataset=dict(pipeline=train_pipeline, modality=dict(use_lidar=True, use_camera=True))
)
