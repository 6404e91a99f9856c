"""Algorithm 1 for ciba_sound_picture.py."""

_base_ = ['ciba_sound_picture.py']

model = dict(
    _delete_=True,
    type='ciba_bev.BottleneckTraining',
    teacher={{_base_.model.teacher}},
    student=dict(
        config='{{ fileDirname }}/picture_classifier.py',
        checkpoint='work_dirs/picture_classifier.pth',
        inputs={{_base_.model.student_inputs}},
        tap={{_base_.model.student_tap}},
    ),
    bottleneck=dict(type='ciba_bev.VariationalBottleneck', in_channels=20, out_channels=12),
    bottleneck_sizes=[2, 4],
)
val_dataloader = dict(dataset=dict(inputs={{_base_.both_inputs}}))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='ciba_bev.BottleneckMetric')
test_evaluator = val_evaluator
optim_wrapper = dict(
    _delete_=True,
    type='ciba_bev.BottleneckOptimWrapper',
    constructor='ciba_bev.BottleneckOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3),
)
