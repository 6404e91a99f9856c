"""Algorithm 1: bottlenecks of seven sizes from Object-DGCNN to BEVFormer-tiny.

The student is the published one: its weights, converted by tools/convert_checkpoint.py.
"""

_base_ = ['bottleneck_bevformer_r50.py']

model = dict(
    student=dict(
        config='configs/bevformer_tiny.py',
        checkpoint='pretrained/bevformer_tiny.pth',
        # The teacher's map of 128 x 128 cells is brought onto this grid by place.
        tap=dict(grid=[50, 50]),
    )
)

feature_pipeline = [
    {{_base_.load_points}},
    {{_base_.load_latest_sweeps}},
    {{_base_.load_images}},
    # As bevformer_tiny.py has it.
    dict(
        type='MultiViewWrapper',
        collected_keys=['scale_factor', 'img_shape'],
        transforms=[dict(type='Resize3D', scale_factor=0.5, keep_ratio=True)],
    ),
    dict(type='PointsRangeFilter', point_cloud_range={{_base_.point_cloud_range}}),
    dict(
        type='Pack3DDetInputs',
        keys=['points', 'img'],
        meta_keys={{_base_.pack_meta_keys}},
    ),
]
train_dataloader = dict(dataset=dict(pipeline=feature_pipeline, queue_length=3))
val_dataloader = dict(dataset=dict(pipeline=feature_pipeline))
test_dataloader = val_dataloader
