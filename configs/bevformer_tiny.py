"""BEVFormer-tiny as published: images at half their size, one image level, grid of 50 x 50.

Its published weights, converted by tools/convert_checkpoint.py --model bevformer, load as they are.
"""

_base_ = [
    '_base_/models/bevformer_tiny.py',
    '_base_/datasets/nuscenes_half_size.py',
    '_base_/schedules/cosine_24e.py',
    '_base_/default_runtime.py',
]
