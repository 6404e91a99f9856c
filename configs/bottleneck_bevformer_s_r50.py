"""Algorithm 1: bottlenecks from Object-DGCNN to BEVFormer-S R50, seven sizes in one run."""

_base_ = [
    '_base_/datasets/nuscenes_lidar_camera_features.py',
    '_base_/distillation/bottleneck_training.py',
    '_base_/default_runtime.py',
]

model = dict(
    student=dict(
        config='configs/bevformer_s_r50.py', checkpoint='work_dirs/bevformer_s_r50/epoch_24.pth'
    )
)
