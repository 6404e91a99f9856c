"""Audio baseline: VGG-Sound, event from the sound alone, ResNet-50 (Tables 3 and 5)."""

_base_ = [
    '_base_/classification/vgg_sound.py',
    '_base_/schedules/vgg_sound_50e.py',
]

model = dict(
    type='ciba_bev.Classifier',
    network=dict(
        type='ciba_bev.VGGSoundNetwork',
        modality='audio',
        depth=50,
        feature_size=2048,
        # What a student of 512 channels is compared with where the whole feature is distilled.
        narrowed_size=512,
        classes=100,
    ),
    inputs=['audio'],
)
train_dataloader = dict(dataset=dict(inputs=['audio']))
val_dataloader = dict(dataset=dict(inputs=['audio']))
test_dataloader = dict(dataset=dict(inputs=['audio']))
