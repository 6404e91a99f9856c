"""BEVFormer-small as published: images at 0.8 of their size, one image level, grid of 150 x 150.

Its published weights, converted by tools/convert_checkpoint.py --model bevformer, load as they are.
Training begins with the backbone of an FCOS3D (--model fcos3d_r101).
"""

_base_ = [
    '_base_/models/bevformer_small.py',
    '_base_/datasets/nuscenes_four_fifths_size.py',
    '_base_/schedules/cosine_24e.py',
    '_base_/default_runtime.py',
]
