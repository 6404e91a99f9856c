"""CIBA: our Object-DGCNN into somebody else's camera detector."""

_base_ = ['lift_splat.py']

load_four_features = dict(
    type='LoadPointsFromFile', coord_type='LIDAR', load_dim=5, use_dim=4, backend_args=None
)
train_pipeline = [
    load_four_features,
    {{_base_.load_images}},
    {{_base_.load_boxes}},
    dict(type='ObjectRangeFilter', point_cloud_range={{_base_.bounds}}),
    dict(type='ObjectNameFilter', classes={{_base_.class_names}}),
    dict(
        type='Pack3DDetInputs',
        keys=['points', 'img', 'gt_bboxes_3d', 'gt_labels_3d'],
        meta_keys={{_base_.pack_meta_keys}},
    ),
]
model = dict(
    _delete_=True,
    type='ciba_bev.Distiller',
    student={{_base_.model}},
    student_inputs=['img'],
    student_tap=dict(module='bev_encoder', extent=[-30, -40, 30, 40]),
    teacher=dict(
        config='{{ fileDirname }}/object_dgcnn.py',
        checkpoint='work_dirs/object_dgcnn.pth',
        inputs=['points'],
        tap=dict(module='pts_neck', index=0, extent=[-40, -40, 40, 40]),
    ),
    bottleneck=dict(
        config='{{ fileDirname }}/bottleneck_object_dgcnn_lift_splat.py',
        checkpoint='work_dirs/bottleneck_object_dgcnn_lift_splat/epoch_1.pth',
        size=4,
    ),
)
both_sensors = dict(use_lidar=True, use_camera=True)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, modality=both_sensors))
