"""CIBA (H = 2): RAVDESS audio network distilled from image network (Table 7)."""

_base_ = ['ravdess_mse_image_to_audio.py']

model = dict(
    bottleneck=dict(
        config='configs/ravdess_bottleneck_image_to_audio.py',
        checkpoint='work_dirs/ravdess_bottleneck_image_to_audio/best.pth',
        size=2,
    )
)
