"""CIBA (H = 8): RAVDESS image network distilled from audio network (Tables 1(a), 7)."""

_base_ = ['ravdess_mse_audio_to_image.py']

model = dict(
    bottleneck=dict(
        config='configs/ravdess_bottleneck_audio_to_image.py',
        checkpoint='work_dirs/ravdess_bottleneck_audio_to_image/best.pth',
        size=8,
    )
)
