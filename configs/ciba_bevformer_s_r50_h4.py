"""CIBA (H = 4): BEVFormer-S R50 distilled from Object-DGCNN through a 4-channel bottleneck.

Needs the teacher, the undistilled student and the bottleneck of these configs, in this order:
objectdgcnn_voxel01.py, bevformer_s_r50.py, bottleneck_bevformer_s_r50.py.
"""

_base_ = ['mse_bevformer_s_r50.py']

model = dict(
    bottleneck=dict(
        config='configs/bottleneck_bevformer_s_r50.py',
        checkpoint='work_dirs/bottleneck_bevformer_s_r50/epoch_3.pth',
        size=4,
    ),
)
