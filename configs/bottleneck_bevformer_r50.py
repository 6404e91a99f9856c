"""Algorithm 1: bottlenecks from Object-DGCNN to BEVFormer R50, seven sizes in one run (Table 2)."""

_base_ = [
    '_base_/datasets/nuscenes_lidar_camera_features.py',
    '_base_/distillation/bottleneck_training.py',
    '_base_/default_runtime.py',
]

model = dict(
    student=dict(
        config='configs/bevformer_r50.py', checkpoint='work_dirs/bevformer_r50/epoch_24.pth'
    )
)
# Data of a temporal student.
train_dataloader = dict(dataset={{_base_.train_sequences}})
val_dataloader = dict(dataset={{_base_.test_sequences}})
test_dataloader = val_dataloader
