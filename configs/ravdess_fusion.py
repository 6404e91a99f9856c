"""Fusion baseline: RAVDESS, emotion from face and voice (Table 7); also a teacher."""

_base_ = [
    '_base_/classification/ravdess.py',
    '_base_/schedules/ravdess_100e.py',
]

model = dict(
    type='ciba_bev.Classifier',
    network=dict(type='ciba_bev.RavdessFusionNetwork', channels=[32, 64, 128], feature_size=1024),
    inputs=['image', 'audio'],
)
