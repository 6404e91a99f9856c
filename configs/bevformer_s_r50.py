"""BEVFormer-S R50, six cameras, single frame: no history, plain mmdet3d info files."""

_base_ = [
    '_base_/models/bevformer_r50.py',
    '_base_/datasets/nuscenes_camera.py',
    '_base_/schedules/cosine_24e.py',
    '_base_/default_runtime.py',
]
