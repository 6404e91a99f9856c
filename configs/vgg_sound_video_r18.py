"""Video baseline: VGG-Sound, event from a frame alone, ResNet-18 (Tables 3 and 5)."""

_base_ = [
    '_base_/models/vgg_sound_video_r18.py',
    '_base_/classification/vgg_sound.py',
    '_base_/schedules/vgg_sound_50e.py',
]

train_dataloader = dict(dataset=dict(inputs=['video']))
val_dataloader = dict(dataset=dict(inputs=['video']))
test_dataloader = dict(dataset=dict(inputs=['video']))
