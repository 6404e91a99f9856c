"""Algorithm 1 for ciba_centerpoint_voxel_bevformer.py."""

_base_ = ['ciba_centerpoint_voxel_bevformer.py']

load_features = [
    {{_base_.load_points}},
    {{_base_.load_images}},
    dict(type='Pack3DDetInputs', keys=['points', 'img'], meta_keys={{_base_.pack_meta_keys}}),
]
model = dict(
    _delete_=True,
    type='ciba_bev.BottleneckTraining',
    teacher={{_base_.model.teacher}},
    student=dict(
        config='{{ fileDirname }}/bevformer.py',
        checkpoint='work_dirs/bevformer.pth',
        inputs={{_base_.model.student_inputs}},
        tap={{_base_.model.student_tap}},
    ),
    bottleneck=dict(type='ciba_bev.VariationalBottleneck', in_channels=16, out_channels=16),
    bottleneck_sizes=[2, 4],
)
train_dataloader = dict(dataset=dict(pipeline=load_features, filter_empty_gt=False))
val_dataloader = dict(
    dataset=dict(pipeline=load_features, modality={{_base_.both_sensors}}),
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='ciba_bev.BottleneckMetric')
test_evaluator = val_evaluator
optim_wrapper = dict(
    _delete_=True,
    type='ciba_bev.BottleneckOptimWrapper',
    constructor='ciba_bev.BottleneckOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3),
)
