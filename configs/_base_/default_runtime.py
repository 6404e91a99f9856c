# What every experiment shares beside model, data and schedule.
default_scope = 'mmdet3d'
custom_imports = dict(imports=['ciba_bev'], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    # Prints the time left with every line, in training and in testing.
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # An interrupted training goes on from its last whole epoch (tools/train.py --resume). Other
    # tools than this project's remove the oldest before the newest is written: keep more than one.
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
custom_hooks = [
    # Stops a run with missing or damaged data before its first step.
    dict(type='ciba_bev.CheckDataHook'),
    # Logs the loss of the whole batch, not of the first process's share.
    dict(type='ciba_bev.LossAveragingHook'),
    # Notes in the checkpoints of bottlenecks and distilled students what they were made from.
    dict(type='ciba_bev.DistillationRecordHook'),
]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # Without a GPU the tools use gloo instead.
    dist_cfg=dict(backend='nccl', timeout=1800),
)
randomness = dict(seed=0)
# Every parameter that is trained takes part in every step, so distributed training need not search
# for those that do not.
find_unused_parameters = False

log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
log_level = 'INFO'
vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(type='Visualizer', vis_backends=vis_backends, name='visualizer')

load_from = None
resume = False
