"""CIBA (H = 4): BEVFormer-base distilled from Object-DGCNN through a 4-channel bottleneck.

Needs the teacher, the published student's converted weights and the bottleneck, in this order:
objectdgcnn_voxel01.py, tools/convert_checkpoint.py, bottleneck_bevformer_base.py.
"""

_base_ = [
    '_base_/models/bevformer_base.py',
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
    # The teacher's feature of 128 x 128 cells is resampled to this grid, by position.
    student_tap=dict(_base_.student_tap, grid=[200, 200]),
    bottleneck=dict(
        config='configs/bottleneck_bevformer_base.py',
        checkpoint='work_dirs/bottleneck_bevformer_base/epoch_3.pth',
        size=4,
    ),
)
train_dataloader = dict(
    dataset=dict(pipeline={{_base_.lidar_camera_pipeline}}, modality={{_base_.both_sensors}})
)
