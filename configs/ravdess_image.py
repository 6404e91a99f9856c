"""Image baseline: RAVDESS, emotion from the face alone (Tables 1(a) and 7)."""

_base_ = [
    '_base_/models/ravdess_image.py',
    '_base_/classification/ravdess.py',
    '_base_/schedules/ravdess_100e.py',
]

train_dataloader = dict(dataset=dict(inputs=['image']))
val_dataloader = dict(dataset=dict(inputs=['image']))
test_dataloader = dict(dataset=dict(inputs=['image']))
