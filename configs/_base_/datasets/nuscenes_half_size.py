"""nuScenes in sequences of three frames, images at half their size. For BEVFormer-tiny."""

_base_ = ['./nuscenes.py']

resize_images = dict(
    _base_.resize_images,
    transforms=[dict(type='Resize3D', scale_factor=0.5, keep_ratio=True)],
)
train_pipeline = [*_base_.load_train_images, resize_images, *_base_.camera_targets]
test_pipeline = [_base_.load_images, resize_images, _base_.pack_images]
lidar_camera_pipeline = [
    *_base_.load_train_points,
    *_base_.load_train_images,
    resize_images,
    *_base_.lidar_camera_targets,
]
feature_pipeline = [
    *_base_.load_latest_points,
    _base_.load_images,
    resize_images,
    *_base_.pack_features,
]
train_dataloader = dict(
    dataset=dict(_base_.train_sequences, queue_length=3, pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(_base_.test_sequences, pipeline=test_pipeline))
test_dataloader = val_dataloader
