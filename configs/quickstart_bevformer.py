"""Quickstart: a small single-frame BEVFormer on simulated data, trained in minutes on one core."""

_base_ = [
    '_base_/models/bevformer_quickstart.py',
    '_base_/datasets/simulated.py',
    '_base_/schedules/quickstart_10e.py',
    '_base_/default_runtime.py',
]
