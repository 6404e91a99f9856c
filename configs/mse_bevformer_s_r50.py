"""MSE: BEVFormer-S R50 (single frame) distilled from Object-DGCNN on all 256 channels."""

_base_ = [
    '_base_/models/bevformer_r50.py',
    '_base_/datasets/nuscenes_lidar_camera.py',
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
