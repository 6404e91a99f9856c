# What the classification experiments share beside model, data and schedule.
default_scope = 'mmengine'
custom_imports = dict(imports=['ciba_bev'], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # An interrupted training goes on from its last whole epoch (tools/train.py --resume).
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
custom_hooks = [
    # Compares the data with the networks before the first step.
    dict(type='ciba_bev.CheckInputsHook'),
    # Notes in the checkpoints of bottlenecks and distilled students what they were made from.
    dict(type='ciba_bev.DistillationRecordHook'),
    # Tests the epoch that validation liked best, writes metrics.json and best.pth.
    dict(type='ciba_bev.BestEpochHook'),
]
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl', timeout=1800),
)
randomness = dict(seed=0)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
log_level = 'INFO'
vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(type='Visualizer', vis_backends=vis_backends, name='visualizer')
load_from = None
resume = False
