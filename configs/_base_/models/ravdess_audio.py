# RAVDESS, audio network.
model = dict(
    type='ciba_bev.Classifier',
    network=dict(type='ciba_bev.RavdessAudioNetwork', channels=[32, 64, 128], feature_size=1024),
    inputs=['audio'],
)
