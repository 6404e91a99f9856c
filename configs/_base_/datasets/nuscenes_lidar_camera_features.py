"""nuScenes, LiDAR and cameras, in training and validation, not augmented. For Algorithm 1.

The two models are frozen and give the features that they give in use.
"""

_base_ = ['./nuscenes_lidar_camera.py']

feature_pipeline = [
    {{_base_.load_points}},
    {{_base_.load_latest_sweeps}},
    {{_base_.load_images}},
    dict(type='PointsRangeFilter', point_cloud_range={{_base_.point_cloud_range}}),
    dict(
        type='Pack3DDetInputs',
        keys=['points', 'img'],
        meta_keys={{_base_.pack_meta_keys}},
    ),
]
both_sensors = dict(use_lidar=True, use_camera=True)

train_dataloader = dict(
    # Frames without objects have features too.
    dataset=dict(pipeline=feature_pipeline, modality=both_sensors, filter_empty_gt=False)
)
val_dataloader = dict(dataset=dict(pipeline=feature_pipeline, modality=both_sensors))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='ciba_bev.BottleneckMetric')
test_evaluator = val_evaluator
