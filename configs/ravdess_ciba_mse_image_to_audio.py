"""RAVDESS, CIBA: the first 2 channels of the audio feature follow a code of the image feature."""

_base_ = ['ravdess_mse_image_to_audio.py']

model = dict(
    bottleneck=dict(
        config='configs/ravdess_bottleneck_image_to_audio.py',
        checkpoint='work_dirs/ravdess_bottleneck_image_to_audio/best.pth',
        size=2,
    )
)
