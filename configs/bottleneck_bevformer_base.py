"""Algorithm 1: bottlenecks of seven sizes from Object-DGCNN to BEVFormer-base.

The student is the published one: its weights, converted by tools/convert_checkpoint.py.
"""

_base_ = ['bottleneck_bevformer_r50.py']

model = dict(
    student=dict(
        config='configs/bevformer_base.py',
        checkpoint='pretrained/bevformer_base.pth',
        # The teacher's map of 128 x 128 cells is brought onto this grid by place.
        tap=dict(grid=[200, 200]),
    )
)
