"""nuScenes, ten LiDAR sweeps and six cameras, frame by frame. For distillation.

Validation and test are the student's, cameras only.
"""

_base_ = ['./nuscenes.py']

train_dataloader = dict(
    dataset=dict(pipeline={{_base_.lidar_camera_pipeline}}, modality={{_base_.both_sensors}})
)
