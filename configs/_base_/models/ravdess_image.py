# RAVDESS, image network.
model = dict(
    type='ciba_bev.Classifier',
    network=dict(type='ciba_bev.RavdessImageNetwork', channels=[32, 64, 128], feature_size=1024),
    inputs=['image'],
)
