"""The small student, its first eight channels imitating a code of the small teacher's BEV map."""

_base_ = ['quickstart_mse_bevformer.py']

model = dict(
    bottleneck=dict(
        config='configs/quickstart_bottleneck_bevformer.py',
        checkpoint='work_dirs/quickstart/bottleneck/epoch_4.pth',
        size=8,
    )
)
