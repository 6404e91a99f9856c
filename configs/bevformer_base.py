"""BEVFormer-base as published: ResNet-101 with deformable convolutions, grid of 200 x 200.

Its published weights, converted by tools/convert_checkpoint.py --model bevformer, load as they are.
Training begins with the backbone of an FCOS3D (--model fcos3d_r101).
"""

_base_ = [
    '_base_/models/bevformer_base.py',
    '_base_/datasets/nuscenes_camera_sequence.py',
    '_base_/schedules/cosine_24e.py',
    '_base_/default_runtime.py',
]
