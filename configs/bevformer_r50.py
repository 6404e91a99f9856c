"""The paper's student: BEVFormer, six cameras, ResNet-50, a queue of four frames."""

_base_ = [
    '_base_/models/bevformer_r50.py',
    '_base_/datasets/nuscenes_camera_sequence.py',
    '_base_/schedules/cosine_24e.py',
    '_base_/default_runtime.py',
]
