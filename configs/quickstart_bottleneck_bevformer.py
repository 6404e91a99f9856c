"""Algorithm 1 in the simulated world: bottlenecks of five sizes in one run."""

_base_ = ['quickstart_mse_bevformer.py']

max_epochs = 4

model = dict(
    _delete_=True,
    type='ciba_bev.BottleneckTraining',
    teacher={{_base_.model.teacher}},
    student=dict(
        config='configs/quickstart_bevformer.py',
        checkpoint='work_dirs/quickstart/student/epoch_10.pth',
        inputs=['img'],
        tap={{_base_.model.student_tap}},
    ),
    bottleneck=dict(
        type='ciba_bev.VariationalBottleneck',
        in_channels=64,
        out_channels=64,
        # Cell by cell, a code predicts where this student's cells are and not what is there
        # (docs/method.md, "Place and object").
        kernel_size=3,
        # With 1 (Eq. 7 as it stands) wide codes give up channels before they learn to use them.
        regularization_weight=0.1,
    ),
    bottleneck_sizes=[2, 4, 8, 16, 32],
    feature_cache='work_dirs/quickstart/features',
)

train_dataloader = dict(
    batch_size=1,
    # Frames without objects have features too.
    dataset=dict(pipeline={{_base_.feature_pipeline}}, filter_empty_gt=False),
)
val_dataloader = dict(
    dataset=dict(pipeline={{_base_.feature_pipeline}}, modality={{_base_.both_sensors}})
)
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True,
    type='ciba_bev.BottleneckMetric',
    out_file='work_dirs/quickstart/bottleneck/bottlenecks.json',
)
test_evaluator = val_evaluator

optim_wrapper = dict(
    _delete_=True,
    type='ciba_bev.BottleneckOptimWrapper',
    constructor='ciba_bev.BottleneckOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=50, by_epoch=False),
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        eta_min_ratio=1e-2,
        begin=0,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=max_epochs, val_begin=max_epochs)
custom_hooks = [
    dict(type='ciba_bev.CheckDataHook'),
    dict(type='ciba_bev.LossAveragingHook'),
    dict(type='ciba_bev.DistillationRecordHook'),
]
