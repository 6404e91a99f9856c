"""MSE w/ GT: as MSE, weighted by a Gaussian around every annotated box (Table 2)."""

_base_ = ['mse_bevformer_r50.py']

model = dict(
    target_weight=dict(
        type='ciba_bev.GaussianForeground', point_cloud_range={{_base_.point_cloud_range}}
    )
)
