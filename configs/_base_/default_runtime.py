"""Detectors: scope and hooks."""

_base_ = ['./environment.py']

default_scope = 'mmdet3d'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    # Prints the time left with every line, in training and in testing.
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # An interrupted training goes on from its last whole epoch (tools/train.py --resume). Other
    # tools than this project's remove the oldest before the newest is written: keep more than one.
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # Stops a run with missing or damaged data before its first step.
    check_data=dict(type='ciba_bev.CheckDataHook'),
    # Logs the loss of the whole batch, not of the first process's share.
    loss_averaging=dict(type='ciba_bev.LossAveragingHook'),
    # Notes in the checkpoints of bottlenecks and distilled students what they were made from.
    distillation_record=dict(type='ciba_bev.DistillationRecordHook'),
    # Of bottlenecks with subtract_cell_means=True.
    cell_means=dict(type='ciba_bev.CellMeansHook'),
)

# Every parameter that is trained takes part in every step, so distributed training need not search
# for those that do not.
find_unused_parameters = False
