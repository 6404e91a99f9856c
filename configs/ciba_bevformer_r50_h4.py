"""Table 2, CIBA: the student's first four channels imitate a four-channel code of the teacher's.

Needs the teacher, the undistilled student and the bottleneck of these configs, in this order:
objectdgcnn_voxel01.py, bevformer_r50.py, bottleneck_bevformer_r50.py.
"""

_base_ = ['mse_bevformer_r50.py']

model = dict(
    bottleneck=dict(
        config='configs/bottleneck_bevformer_r50.py',
        checkpoint='work_dirs/bottleneck_bevformer_r50/epoch_3.pth',
        size=4,
    )
)
