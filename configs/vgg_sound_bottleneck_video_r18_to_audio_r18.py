"""Algorithm 1: VGG-Sound, from a video ResNet-18 to an audio ResNet-18 (Fig. 12)."""

_base_ = ['_base_/classification/vgg_sound_bottleneck.py']

model = dict(
    teacher={{_base_.video_r18}},
    student={{_base_.audio_r18}},
    bottleneck=dict(in_channels=512),
)
val_evaluator = dict(
    out_file='work_dirs/vgg_sound_bottleneck_video_r18_to_audio_r18/bottlenecks.json'
)
