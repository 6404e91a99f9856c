"""From Object-DGCNN to BEVFormer: teacher, taps and loss of all distillations on nuScenes.

Teacher and student meet in BEV features of 128 x 128 x 256, rows along y, columns along x. The
extent lets the two be matched in metres.
"""

bev_grid = [128, 128]
bev_extent = [-51.2, -51.2, 51.2, 51.2]

# The paper's teacher, read at the first level of its FPN, the feature that its transformer reads.
# Its deformable encoder's output on that level is the other sensible tap:
# dict(module='pts_bbox_head.transformer.encoder', ...).
teacher = dict(
    config='configs/objectdgcnn_voxel01.py',
    checkpoint='work_dirs/objectdgcnn_voxel01/epoch_20.pth',
    inputs=['points'],
    tap=dict(module='pts_neck', index=0, grid=bev_grid, extent=bev_extent),
)
# The BEV feature after the last encoder layer, of the current frame: the input of the head.
student_tap = dict(
    module='pts_bbox_head', source='input', layout='tokens', grid=bev_grid, extent=bev_extent
)
# Without "student", and without the "bottleneck" of CIBA.
distillation = dict(
    type='ciba_bev.Distiller',
    teacher=teacher,
    student_inputs=['img'],
    student_tap=student_tap,
    loss=dict(type='ciba_bev.MSELoss'),
    loss_weight=1.0,
)
# Logs the spectrum of the student's feature, its effective rank and the energy in channels [0:H].
custom_hooks = [dict(type='ciba_bev.SpectrumHook')]
