"""MSE: BEVFormer R50 distilled from Object-DGCNN on all 256 channels (Table 2)."""

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
)
train_dataloader = dict(
    dataset=dict(pipeline={{_base_.lidar_camera_pipeline}}, modality={{_base_.both_sensors}})
)
