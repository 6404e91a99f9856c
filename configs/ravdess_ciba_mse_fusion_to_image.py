"""RAVDESS, CIBA: the first 8 channels of the image feature follow a code of the fusion feature."""

_base_ = ['ravdess_mse_fusion_to_image.py']

model = dict(
    bottleneck=dict(
        config='configs/ravdess_bottleneck_fusion_to_image.py',
        checkpoint='work_dirs/ravdess_bottleneck_fusion_to_image/best.pth',
        size=8,
    )
)
