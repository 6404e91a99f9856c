"""VGG-Sound, CIBA: 16 channels of the audio feature follow a code of a video ResNet-18's feature."""

_base_ = ['vgg_sound_mse_video_r18_to_audio_r18.py']

model = dict(
    bottleneck=dict(
        config='configs/vgg_sound_bottleneck_video_r18_to_audio_r18.py',
        checkpoint='work_dirs/vgg_sound_bottleneck_video_r18_to_audio_r18/best.pth',
        size=16,
    )
)
