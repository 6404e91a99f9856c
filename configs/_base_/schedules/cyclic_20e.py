"""Teacher: 20 epochs of AdamW, the rate rising tenfold over 40 % of them, then falling to 1e-8.

While the rate is high, momentum (beta 1) is low: 0.9 falls to 0.805 and comes back. Ratios, not
values, so that parts with a rate of their own follow the same curve.
"""

max_epochs = 20
lr = 1e-4

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ciba_bev.GroupedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=lr, betas=(0.9, 0.999), weight_decay=0.01),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        T_max=0.4 * max_epochs,
        eta_min_ratio=10,
        begin=0,
        end=0.4 * max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        T_max=0.6 * max_epochs,
        eta_min_ratio=1e-4,
        begin=0.4 * max_epochs,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingMomentum',
        T_max=0.4 * max_epochs,
        eta_min_ratio=0.85 / 0.95,
        begin=0,
        end=0.4 * max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingMomentum',
        T_max=0.6 * max_epochs,
        eta_min_ratio=1,
        begin=0.4 * max_epochs,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# 8 GPUs with 4 samples each.
auto_scale_lr = dict(enable=False, base_batch_size=32)
