"""Quickstart, MSE w/ GT: as MSE, weighted by a Gaussian around every annotated box."""

_base_ = ['quickstart_mse_bevformer.py']

model = dict(
    target_weight=dict(
        type='ciba_bev.GaussianForeground', point_cloud_range={{_base_.point_cloud_range}}
    )
)
