"""CIBA of BEVFormer-tiny, with a code of four channels.

Needs the teacher, the published student's converted weights and the bottleneck, in this order:
objectdgcnn_voxel01.py, tools/convert_checkpoint.py, bottleneck_bevformer_tiny.py.
"""

_base_ = ['bevformer_tiny.py', '_base_/distillation/taps_128.py']

model = dict(
    _delete_=True,
    type='ciba_bev.Distiller',
    student={{_base_.model}},
    student_inputs=['img'],
    # The teacher's map of 128 x 128 cells is brought onto this grid by place.
    student_tap=dict(
        module='pts_bbox_head',
        source='input',
        layout='tokens',
        grid=[50, 50],
        extent={{_base_.bev_extent}},
    ),
    teacher={{_base_.teacher}},
    bottleneck=dict(
        config='configs/bottleneck_bevformer_tiny.py',
        checkpoint='work_dirs/bottleneck_bevformer_tiny/epoch_3.pth',
        size=4,
    ),
    loss=dict(type='ciba_bev.MSELoss'),
    loss_weight=1.0,
)
custom_hooks = [
    dict(type='ciba_bev.CheckDataHook'),
    dict(type='ciba_bev.LossAveragingHook'),
    dict(type='ciba_bev.DistillationRecordHook'),
    dict(type='ciba_bev.SpectrumHook'),
]
train_pipeline = [
    {{_base_.load_points}},
    {{_base_.load_sweeps}},
    {{_base_.load_images}},
    {{_base_.resize_images}},
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
