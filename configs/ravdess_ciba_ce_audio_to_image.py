"""CIBA (H = 8), cross-entropy: RAVDESS image network distilled from audio network (Table 1(a))."""

_base_ = ['ravdess_mse_audio_to_image.py']

model = dict(
    loss=dict(_delete_=True, type='ciba_bev.CrossEntropyLoss'),
    bottleneck=dict(
        config='configs/ravdess_bottleneck_audio_to_image.py',
        checkpoint='work_dirs/ravdess_bottleneck_audio_to_image/best.pth',
        size=8,
    ),
)
