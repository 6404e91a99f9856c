"""VGG-Sound, Algorithm 1: bottlenecks of all sizes of Fig. 12, from an audio ResNet-50 to video."""

_base_ = ['vgg_sound_bottleneck_audio_r18_to_video_r18.py']

model = dict(
    teacher=dict(
        config='configs/vgg_sound_audio_r50.py', checkpoint='work_dirs/vgg_sound_audio_r50/best.pth'
    ),
    bottleneck=dict(in_channels=2048),
)
val_evaluator = dict(
    out_file='work_dirs/vgg_sound_bottleneck_audio_r50_to_video_r18/bottlenecks.json'
)
