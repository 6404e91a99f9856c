# Algorithm 1: how bottlenecks are trained. The paper leaves the optimizer and lambda open; the loss
# is Eq. 7 as it stands (lambda = 1, squared distances and divergences summed over channels).
bottleneck_sizes = [2, 4, 8, 16, 32, 64, 128]
bottleneck = dict(type='ciba_bev.VariationalBottleneck', in_channels=256, out_channels=256)

# Millions of cells a pass: a few passes are many steps for networks this small.
max_epochs = 3
optim_wrapper = dict(
    type='ciba_bev.BottleneckOptimWrapper',
    constructor='ciba_bev.BottleneckOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=200, by_epoch=False),
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        eta_min_ratio=1e-2,
        begin=0,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=8)
