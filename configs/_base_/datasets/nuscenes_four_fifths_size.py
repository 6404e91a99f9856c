"""nuScenes in sequences of three frames, images at 0.8 of their size. For BEVFormer-small."""

_base_ = ['./nuscenes_half_size.py']

resize_images = dict(
    _base_.resize_images,
    transforms=[dict(type='Resize3D', scale_factor=0.8, keep_ratio=True)],
)
# The pipelines of half the size, but for this step.
train_pipeline = [
    resize_images if step == _base_.resize_images else step for step in _base_.train_pipeline
]
test_pipeline = [
    resize_images if step == _base_.resize_images else step for step in _base_.test_pipeline
]
lidar_camera_pipeline = [
    resize_images if step == _base_.resize_images else step for step in _base_.lidar_camera_pipeline
]
feature_pipeline = [
    resize_images if step == _base_.resize_images else step for step in _base_.feature_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
