"""VGG-Sound: the event from the sound alone, ResNet-18 from random weights (Tables 3 and 5)."""

_base_ = ['_base_/classification/vgg_sound.py']

model = dict(
    type='ciba_bev.Classifier',
    network=dict(
        type='ciba_bev.VGGSoundNetwork',
        modality='audio',
        depth=18,
        feature_size=512,
        classes=100,
    ),
    inputs=['audio'],
)
train_dataloader = dict(dataset=dict(inputs=['audio']))
val_dataloader = dict(dataset=dict(inputs=['audio']))
test_dataloader = dict(dataset=dict(inputs=['audio']))
