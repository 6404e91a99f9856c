"""nuScenes, LiDAR and cameras, in training and validation, not augmented. For Algorithm 1."""

_base_ = ['./nuscenes.py']

features = dict(pipeline={{_base_.feature_pipeline}}, modality={{_base_.both_sensors}})
# Frames without objects have features too.
train_dataloader = dict(dataset=dict(features, filter_empty_gt=False))
val_dataloader = dict(dataset=features)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='ciba_bev.BottleneckMetric')
test_evaluator = val_evaluator
