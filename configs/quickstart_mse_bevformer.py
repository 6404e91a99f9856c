"""The small student, imitating all channels of the small teacher's BEV map, in the simulated world."""

_base_ = ['quickstart_bevformer.py']

bev_extent = [-40.0, -40.0, 40.0, 40.0]

model = dict(
    _delete_=True,
    type='ciba_bev.Distiller',
    student={{_base_.model}},
    student_inputs=['img'],
    student_tap=dict(
        module='pts_bbox_head', source='input', layout='tokens', grid=[48, 48], extent=bev_extent
    ),
    teacher=dict(
        config='configs/quickstart_object_dgcnn.py',
        checkpoint='work_dirs/quickstart/teacher/epoch_8.pth',
        inputs=['points'],
        tap=dict(module='pts_neck', index=0, grid=[64, 64], extent=bev_extent),
    ),
    loss=dict(type='ciba_bev.MSELoss'),
    # Equal weights are too little for ten epochs (docs/method.md has the scores of both).
    loss_weight=5.0,
)

load_both_sensors = [
    dict(type='LoadPointsFromFile', coord_type='LIDAR', load_dim=5, use_dim=4, backend_args=None),
    dict(type='PointsRangeFilter', point_cloud_range={{_base_.bev_range}}),
    dict(type='LoadMultiViewImageFromFiles', num_views=6, backend_args=None),
]
train_pipeline = [
    *load_both_sensors,
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(type='ObjectRangeFilter', point_cloud_range={{_base_.bev_range}}),
    dict(type='ObjectNameFilter', classes={{_base_.class_names}}),
    dict(
        type='Pack3DDetInputs',
        keys=['points', 'img', 'gt_bboxes_3d', 'gt_labels_3d'],
        meta_keys={{_base_.pack_meta_keys}},
    ),
]
# Algorithm 1 needs both sensors in validation too, and no annotations.
feature_pipeline = [
    *load_both_sensors,
    dict(type='Pack3DDetInputs', keys=['points', 'img'], meta_keys={{_base_.pack_meta_keys}}),
]
both_sensors = dict(use_lidar=True, use_camera=True)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, modality=both_sensors))
custom_hooks = [
    dict(type='ciba_bev.CheckDataHook'),
    dict(type='ciba_bev.LossAveragingHook'),
    dict(type='ciba_bev.DistillationRecordHook'),
    dict(type='ciba_bev.SpectrumHook'),
]
