"""Algorithm 1: bottlenecks from Object-DGCNN to BEVFormer-base, seven sizes in one run.

The student is the published one: its weights, converted by tools/convert_checkpoint.py.
"""

_base_ = ['bottleneck_bevformer_r50.py']

model = dict(
    student=dict(
        config='configs/bevformer_base.py',
        checkpoint='pretrained/bevformer_base.pth',
        # The teacher's feature of 128 x 128 cells is resampled to this grid, by position.
        tap=dict(grid=[200, 200]),
    )
)
