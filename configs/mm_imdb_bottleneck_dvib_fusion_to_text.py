"""MM-IMDB, Algorithm 1: a variational bottleneck (DVIB) of all sizes of Fig. 11, fusion to text."""

_base_ = ['mm_imdb_mse_fusion_to_text.py']

max_epochs = 30

model = dict(
    _delete_=True,
    type='ciba_bev.BottleneckTraining',
    teacher={{_base_.model.teacher}},
    student=dict(
        config='configs/mm_imdb_text.py',
        checkpoint='work_dirs/mm_imdb_text/best.pth',
        inputs=['text'],
        tap={{_base_.feature}},
    ),
    bottleneck=dict(type='ciba_bev.VariationalBottleneck', in_channels=64, out_channels=64),
    bottleneck_sizes=[2, 4, 8, 16, 32, 64],
)
val_dataloader = dict(dataset=dict(inputs={{_base_.both}}))
test_dataloader = dict(dataset=dict(inputs={{_base_.both}}))
val_evaluator = dict(
    _delete_=True,
    type='ciba_bev.BottleneckMetric',
    out_file='work_dirs/mm_imdb_bottleneck_dvib_fusion_to_text/bottlenecks.json',
)
test_evaluator = dict(_delete_=True, type='ciba_bev.BottleneckMetric')

# The paper leaves optimizer and length open.
optim_wrapper = dict(
    _delete_=True,
    type='ciba_bev.BottleneckOptimWrapper',
    constructor='ciba_bev.BottleneckOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=35, norm_type=2),
)
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
# All sizes are in one checkpoint, each as it was at its own best validation.
default_hooks = dict(checkpoint=dict(interval=max_epochs, save_best=None))
custom_hooks = [
    dict(type='ciba_bev.CheckInputsHook'),
    dict(type='ciba_bev.DistillationRecordHook'),
    dict(type='ciba_bev.BestBottleneckHook'),
]
