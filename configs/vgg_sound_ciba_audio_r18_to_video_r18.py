"""CIBA (H = 16): VGG-Sound video ResNet-18 distilled from an audio ResNet-18 (Table 3)."""

_base_ = ['vgg_sound_mse_audio_r18_to_video_r18.py']

model = dict(
    bottleneck=dict(
        config='configs/vgg_sound_bottleneck_audio_r18_to_video_r18.py',
        checkpoint='work_dirs/vgg_sound_bottleneck_audio_r18_to_video_r18/best.pth',
        size=16,
    )
)
