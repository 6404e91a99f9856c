"""CIBA (H = 16): VGG-Sound audio ResNet-18 distilled from a video ResNet-50 (Table 3)."""

_base_ = ['vgg_sound_mse_video_r50_to_audio_r18.py']

model = dict(
    # The code is made from the whole feature.
    teacher=dict(tap=dict(module='network.feature')),
    bottleneck=dict(
        config='configs/vgg_sound_bottleneck_video_r50_to_audio_r18.py',
        checkpoint='work_dirs/vgg_sound_bottleneck_video_r50_to_audio_r18/best.pth',
        size=16,
    ),
)
