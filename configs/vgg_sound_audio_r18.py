"""Audio baseline: VGG-Sound, event from the sound alone, ResNet-18 (Tables 3 and 5)."""

_base_ = [
    '_base_/models/vgg_sound_audio_r18.py',
    '_base_/classification/vgg_sound.py',
    '_base_/schedules/vgg_sound_50e.py',
]

train_dataloader = dict(dataset=dict(inputs=['audio']))
val_dataloader = dict(dataset=dict(inputs=['audio']))
test_dataloader = dict(dataset=dict(inputs=['audio']))
