"""nuScenes, LiDAR and cameras, in training and validation, not augmented. For Algorithm 1.

The two models are frozen and shall give the features that they give in use.
"""

_base_ = ['./nuscenes_lidar_camera.py']

backend_args = None
point_cloud_range = {{_base_.point_cloud_range}}

feature_pipeline = [
    dict(
        type='LoadPointsFromFile',
        coord_type='LIDAR',
        load_dim=5,
        use_dim=5,
        backend_args=backend_args,
    ),
    dict(
        type='LoadPointsFromMultiSweeps',
        sweeps_num=9,
        load_dim=5,
        use_dim=[0, 1, 2, 3, 4],
        pad_empty_sweeps=True,
        remove_close=True,
        test_mode=True,
        backend_args=backend_args,
    ),
    dict(type='LoadMultiViewImageFromFiles', num_views=6, backend_args=backend_args),
    dict(type='PointsRangeFilter', point_cloud_range=point_cloud_range),
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
val_dataloader = dict(
    # No frame twice, whatever the number of processes: spectra are exact.
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(pipeline=feature_pipeline, modality=both_sensors),
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='ciba_bev.BottleneckMetric')
test_evaluator = val_evaluator
