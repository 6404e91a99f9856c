"""Classifiers: scope and hooks."""

default_scope = 'mmengine'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # An interrupted training goes on from its last whole epoch (tools/train.py --resume).
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # Compares the data with the networks before the first step.
    check_inputs=dict(type='ciba_bev.CheckInputsHook'),
    # Notes in the checkpoints of bottlenecks and distilled students what they were made from.
    distillation_record=dict(type='ciba_bev.DistillationRecordHook'),
    # Tests the epoch that validation liked best, writes metrics.json and best.pth.
    best_checkpoint=dict(type='ciba_bev.BestEpochHook'),
)
