"""Quickstart, Algorithm 1: bottlenecks of five sizes in one run."""

_base_ = [
    '_base_/datasets/simulated.py',
    '_base_/distillation/quickstart.py',
    '_base_/distillation/bottleneck_optimizer.py',
    '_base_/schedules/annealing.py',
    '_base_/default_runtime.py',
]

model = dict(
    type='ciba_bev.BottleneckTraining',
    teacher={{_base_.teacher}},
    student=dict(
        config='configs/quickstart_bevformer.py',
        checkpoint='work_dirs/quickstart/student/epoch_10.pth',
        inputs=['img'],
        tap={{_base_.student_tap}},
    ),
    bottleneck=dict(
        type='ciba_bev.VariationalBottleneck',
        in_channels=64,
        out_channels=64,
        # Cell by cell, a code predicts where this student's cells are and not what is there
        # (docs/method.md, "Position and content").
        kernel_size=3,
        # With 1 (Eq. 7 as it stands) wide codes give up channels before they learn to use them.
        regularization_weight=0.1,
    ),
    bottleneck_sizes=[2, 4, 8, 16, 32],
    subtract_cell_means=False,
    feature_cache='work_dirs/quickstart/features',
)

features = dict(pipeline={{_base_.feature_pipeline}}, modality={{_base_.both_sensors}})
# Frames without objects have features too.
train_dataloader = dict(dataset=dict(features, filter_empty_gt=False))
val_dataloader = dict(dataset=features)
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True,
    type='ciba_bev.BottleneckMetric',
    out_file='work_dirs/quickstart/bottleneck/bottlenecks.json',
)
test_evaluator = val_evaluator

max_epochs = 4
param_scheduler = [
    dict(_base_.warm_up, end=50),
    dict(_base_.cosine, T_max=max_epochs, end=max_epochs),
]
train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=max_epochs, val_begin=max_epochs, val_interval=6
)
auto_scale_lr = dict(enable=False, base_batch_size=8)
