"""RAVDESS: the emotion from face and voice; fusion-baseline of Table 7, and a teacher."""

_base_ = ['_base_/classification/ravdess.py']

model = dict(
    type='ciba_bev.Classifier',
    network=dict(type='ciba_bev.RavdessFusionNetwork', channels=[32, 64, 128], feature_size=1024),
    inputs=['image', 'audio'],
)
