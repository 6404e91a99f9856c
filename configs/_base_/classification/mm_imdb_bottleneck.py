"""Algorithm 1 on MM-IMDB: bottlenecks of all sizes in one run."""

_base_ = ['./mm_imdb.py', '../distillation/bottleneck_optimizer.py']

dvib = dict(type='ciba_bev.VariationalBottleneck', in_channels=64, out_channels=64)
self_attention = dict(
    type='ciba_bev.SelfAttentionBottleneck',
    in_channels=64,
    out_channels=64,
    # The features have no grid: the halves of a code attend to each other, at every size.
    channel_groups=2,
)
vq_vae = dict(type='ciba_bev.VectorQuantizedBottleneck', in_channels=64, out_channels=64)

model = dict(
    type='ciba_bev.BottleneckTraining',
    bottleneck_sizes=[2, 4, 8, 16, 32, 64],
)
val_evaluator = dict(_delete_=True, type='ciba_bev.BottleneckMetric')
test_evaluator = dict(_delete_=True, type='ciba_bev.BottleneckMetric')

# The paper leaves the length open.
max_epochs = 30
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
default_hooks = dict(
    # All sizes are in one checkpoint, each as it was at its own best validation.
    checkpoint=dict(interval=max_epochs, save_best=None),
    best_checkpoint=dict(type='ciba_bev.BestBottleneckHook'),
)
