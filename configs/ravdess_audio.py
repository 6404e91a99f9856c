"""RAVDESS: the emotion from the voice alone; the audio-baseline of Tables 1(a) and 7."""

_base_ = ['_base_/classification/ravdess.py']

model = dict(
    type='ciba_bev.Classifier',
    network=dict(type='ciba_bev.RavdessAudioNetwork', channels=[32, 64, 128], feature_size=1024),
    inputs=['audio'],
)
train_dataloader = dict(dataset=dict(inputs=['audio']))
val_dataloader = dict(dataset=dict(inputs=['audio']))
test_dataloader = dict(dataset=dict(inputs=['audio']))
