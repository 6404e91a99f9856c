"""BEVFormer R50, six cameras, four frames: the student of the paper (Table 2, BEVFormer)."""

_base_ = [
    '_base_/models/bevformer_r50.py',
    '_base_/datasets/nuscenes_camera_sequence.py',
    '_base_/schedules/cosine_24e.py',
    '_base_/default_runtime.py',
]
