"""Quickstart, CIBA (H = 8): as MSE, distilled through an 8-channel bottleneck."""

_base_ = ['quickstart_mse_bevformer.py']

model = dict(
    bottleneck=dict(
        config='configs/quickstart_bottleneck_bevformer.py',
        checkpoint='work_dirs/quickstart/bottleneck/epoch_4.pth',
        size=8,
    )
)
