"""RAVDESS, CIBA: the first 8 channels of the image feature follow a code of the audio feature."""

_base_ = ['ravdess_mse_audio_to_image.py']

model = dict(
    bottleneck=dict(
        config='configs/ravdess_bottleneck_audio_to_image.py',
        checkpoint='work_dirs/ravdess_bottleneck_audio_to_image/best.pth',
        size=8,
    )
)
