"""VGG-Sound, Algorithm 1: bottlenecks of all sizes of Fig. 12, from a video ResNet-18 to audio."""

_base_ = ['vgg_sound_mse_video_r18_to_audio_r18.py']

max_epochs = 50

model = dict(
    _delete_=True,
    type='ciba_bev.BottleneckTraining',
    teacher={{_base_.model.teacher}},
    student=dict(
        config='configs/vgg_sound_audio_r18.py',
        checkpoint='work_dirs/vgg_sound_audio_r18/best.pth',
        inputs=['audio'],
        tap={{_base_.model.student_tap}},
    ),
    bottleneck=dict(type='ciba_bev.VariationalBottleneck', in_channels=512, out_channels=512),
    bottleneck_sizes=[2, 4, 8, 16, 32, 64, 128, 256, 512],
)

val_dataloader = dict(dataset=dict(inputs={{_base_.both}}))
test_dataloader = dict(dataset=dict(inputs={{_base_.both}}))
val_evaluator = dict(
    _delete_=True,
    type='ciba_bev.BottleneckMetric',
    out_file='work_dirs/vgg_sound_bottleneck_video_r18_to_audio_r18/bottlenecks.json',
)
test_evaluator = dict(_delete_=True, type='ciba_bev.BottleneckMetric')

# The paper leaves optimizer and length open; length and batch are those of the other trainings.
optim_wrapper = dict(
    _delete_=True,
    type='ciba_bev.BottleneckOptimWrapper',
    constructor='ciba_bev.BottleneckOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        eta_min_ratio=1e-2,
        begin=0,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
# All sizes are in one checkpoint, each as it was at its own best validation.
default_hooks = dict(checkpoint=dict(interval=5, save_best=None))
custom_hooks = [
    dict(type='ciba_bev.CheckInputsHook'),
    dict(type='ciba_bev.DistillationRecordHook'),
    dict(type='ciba_bev.BestBottleneckHook'),
]
