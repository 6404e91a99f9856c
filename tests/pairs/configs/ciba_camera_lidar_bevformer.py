"""CIBA: a fusion of cameras and LiDAR into our BEVFormer."""

_base_ = ['bevformer.py']

train_pipeline = [
    {{_base_.load_points}},
    {{_base_.load_images}},
    {{_base_.load_boxes}},
    dict(type='ObjectRangeFilter', point_cloud_range={{_base_.bev_range}}),
    dict(type='ObjectNameFilter', classes={{_base_.class_names}}),
    dict(
        type='Pack3DDetInputs',
        keys=['points', 'img', 'gt_bboxes_3d', 'gt_labels_3d'],
        meta_keys={{_base_.pack_meta_keys}},
    ),
]
bev_extent = [-40, -40, 40, 40]
model = dict(
    _delete_=True,
    type='ciba_bev.Distiller',
    student={{_base_.model}},
    student_inputs=['img'],
    student_tap=dict(
        module='pts_bbox_head', source='input', layout='tokens', grid=[20, 20], extent=bev_extent
    ),
    teacher=dict(
        config='{{ fileDirname }}/camera_lidar.py',
        checkpoint='work_dirs/camera_lidar.pth',
        inputs=['points', 'img'],
        tap=dict(module='bev_encoder', extent=[-51.2, -51.2, 51.2, 51.2]),
    ),
    bottleneck=dict(
        config='{{ fileDirname }}/bottleneck_camera_lidar_bevformer.py',
        checkpoint='work_dirs/bottleneck_camera_lidar_bevformer/epoch_1.pth',
        size=4,
    ),
)
both_sensors = dict(use_lidar=True, use_camera=True)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, modality=both_sensors))
