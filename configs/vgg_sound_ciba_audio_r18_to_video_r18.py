"""VGG-Sound, CIBA: 16 channels of the video feature follow a code of a audio ResNet-18's feature."""

_base_ = ['vgg_sound_mse_audio_r18_to_video_r18.py']

model = dict(
    bottleneck=dict(
        config='configs/vgg_sound_bottleneck_audio_r18_to_video_r18.py',
        checkpoint='work_dirs/vgg_sound_bottleneck_audio_r18_to_video_r18/best.pth',
        size=16,
    )
)
