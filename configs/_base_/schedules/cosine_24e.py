"""Student: 24 epochs of AdamW, 500 steps of warm-up, then a cosine to a thousandth."""

max_epochs = 24
lr = 2e-4

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ciba_bev.GroupedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=lr, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(img_backbone=dict(lr_mult=0.1))),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1.0 / 3, begin=0, end=500, by_epoch=False),
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        eta_min_ratio=1e-3,
        begin=0,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=6)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# 8 GPUs with 1 sample each.
auto_scale_lr = dict(enable=False, base_batch_size=8)
