"""Synthetic data (Sec. 3.5, D.1): every repeat and every D_g in one batch."""

_base_ = ['../environment.py']

default_scope = 'mmengine'

general_dims = [10, 20, 30, 40]
repeats = 10
dims = 50
samples = 1000

data = dict(
    type='ciba_bev.SyntheticModalities',
    general_dims=general_dims,
    repeats=repeats,
    dims=dims,
    samples=samples,
)
train_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=False),
    collate_fn=dict(type='ciba_bev.as_it_is'),
    dataset=data,
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    collate_fn=dict(type='ciba_bev.as_it_is'),
    dataset=dict(data, draw=1),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='ciba_bev.SyntheticMetric')
test_evaluator = val_evaluator

# A step is one of gradient descent on all samples.
max_iters = 1000
train_cfg = dict(by_epoch=False, max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# Rows have mean square one, so the squared distance has unit curvature: 0.9^1000 is nothing.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=10),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=max_iters, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
# Losses are shown as they are at a step.
log_processor = dict(by_epoch=False, window_size=1)
