"""Algorithm 1 on VGG-Sound: bottlenecks of all sizes in one run."""

_base_ = [
    './vgg_sound.py',
    '../distillation/bottleneck_optimizer.py',
    '../schedules/annealing.py',
]

model = dict(
    type='ciba_bev.BottleneckTraining',
    bottleneck=dict(type='ciba_bev.VariationalBottleneck', out_channels=512),
    bottleneck_sizes=[2, 4, 8, 16, 32, 64, 128, 256, 512],
)
val_evaluator = dict(_delete_=True, type='ciba_bev.BottleneckMetric')
test_evaluator = dict(_delete_=True, type='ciba_bev.BottleneckMetric')

# The paper leaves the length open; length and batch are those of the other trainings.
max_epochs = 50
param_scheduler = [dict(_base_.cosine, T_max=max_epochs, end=max_epochs)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
default_hooks = dict(
    # All sizes are in one checkpoint, each as it was at its own best validation.
    checkpoint=dict(interval=5, save_best=None),
    best_checkpoint=dict(type='ciba_bev.BestBottleneckHook'),
)
