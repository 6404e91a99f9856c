"""Algorithm 1 on RAVDESS: bottlenecks of all sizes in one run."""

_base_ = [
    './ravdess.py',
    '../distillation/bottleneck_optimizer.py',
    '../schedules/annealing.py',
]

model = dict(
    type='ciba_bev.BottleneckTraining',
    bottleneck=dict(type='ciba_bev.VariationalBottleneck', in_channels=1024, out_channels=1024),
    bottleneck_sizes=[2, 4, 8, 16, 32, 64, 128, 256, 512, 1024],
)
val_evaluator = dict(_delete_=True, type='ciba_bev.BottleneckMetric')
test_evaluator = dict(_delete_=True, type='ciba_bev.BottleneckMetric')

# The paper leaves the length open.
max_epochs = 100
param_scheduler = [dict(_base_.cosine, T_max=max_epochs, end=max_epochs)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=10)
default_hooks = dict(
    # All sizes are in one checkpoint, each as it was at its own best validation.
    checkpoint=dict(interval=10, save_best=None),
    best_checkpoint=dict(type='ciba_bev.BestBottleneckHook'),
)
