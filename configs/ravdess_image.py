"""RAVDESS: the emotion from the face alone; the image-baseline of Tables 1(a) and 7."""

_base_ = ['_base_/classification/ravdess.py']

model = dict(
    type='ciba_bev.Classifier',
    network=dict(type='ciba_bev.RavdessImageNetwork', channels=[32, 64, 128], feature_size=1024),
    inputs=['image'],
)
train_dataloader = dict(dataset=dict(inputs=['image']))
val_dataloader = dict(dataset=dict(inputs=['image']))
test_dataloader = dict(dataset=dict(inputs=['image']))
