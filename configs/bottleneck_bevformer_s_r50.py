"""Algorithm 1: bottlenecks of seven sizes from Object-DGCNN to the single-frame BEVFormer."""

_base_ = [
    '_base_/datasets/nuscenes_lidar_camera_features.py',
    '_base_/distillation/taps_128.py',
    '_base_/distillation/bottleneck_training.py',
    '_base_/default_runtime.py',
]

model = dict(
    type='ciba_bev.BottleneckTraining',
    teacher={{_base_.teacher}},
    student=dict(
        config='configs/bevformer_s_r50.py',
        checkpoint='work_dirs/bevformer_s_r50/epoch_24.pth',
        inputs=['img'],
        tap={{_base_.student_tap}},
    ),
    bottleneck={{_base_.bottleneck}},
    bottleneck_sizes={{_base_.bottleneck_sizes}},
)
