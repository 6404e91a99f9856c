"""Algorithm 1: bottlenecks from Object-DGCNN to BEVFormer-small, seven sizes in one run.

The student is the published one: its weights, converted by tools/convert_checkpoint.py.
"""

_base_ = [
    '_base_/datasets/nuscenes_four_fifths_size.py',
    '_base_/distillation/bottleneck_training.py',
    '_base_/default_runtime.py',
]

model = dict(
    student=dict(
        config='configs/bevformer_small.py',
        checkpoint='pretrained/bevformer_small.pth',
        # The teacher's feature of 128 x 128 cells is resampled to this grid, by position.
        tap=dict(grid=[150, 150]),
    )
)
features = dict(pipeline={{_base_.feature_pipeline}}, modality={{_base_.both_sensors}})
# Frames without objects have features too.
train_dataloader = dict(dataset=dict(features, filter_empty_gt=False))
val_dataloader = dict(dataset=features)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='ciba_bev.BottleneckMetric')
test_evaluator = val_evaluator
