"""CIBA (H = 4): BEVFormer R50 distilled from Object-DGCNN through a 4-channel bottleneck (Table 2).

Needs the teacher, the undistilled student and the bottleneck of these configs, in this order:
objectdgcnn_voxel01.py, bevformer_r50.py, bottleneck_bevformer_r50.py.
"""

_base_ = [
    '_base_/models/bevformer_r50.py',
    '_base_/datasets/nuscenes_camera_sequence.py',
    '_base_/schedules/cosine_24e.py',
    '_base_/distillation/object_dgcnn_to_bevformer.py',
    '_base_/default_runtime.py',
]

model = dict(
    # Teacher, taps and loss.
    _base_.distillation,
    _delete_=True,
    student={{_base_.model}},
    bottleneck=dict(
        config='configs/bottleneck_bevformer_r50.py',
        checkpoint='work_dirs/bottleneck_bevformer_r50/epoch_3.pth',
        size=4,
    ),
)
train_dataloader = dict(
    dataset=dict(pipeline={{_base_.lidar_camera_pipeline}}, modality={{_base_.both_sensors}})
)
