"""Algorithm 1: VGG-Sound, from an audio ResNet-50 to a video ResNet-18 (Fig. 12)."""

_base_ = ['_base_/classification/vgg_sound_bottleneck.py']

model = dict(
    teacher={{_base_.audio_r50}},
    student={{_base_.video_r18}},
    bottleneck=dict(in_channels=2048),
)
val_evaluator = dict(
    out_file='work_dirs/vgg_sound_bottleneck_audio_r50_to_video_r18/bottlenecks.json'
)
