# Optimizer of Algorithm 1 for every pair. The paper leaves it open.
optim_wrapper = dict(
    type='ciba_bev.BottleneckOptimWrapper',
    constructor='ciba_bev.BottleneckOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=35, norm_type=2),
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
