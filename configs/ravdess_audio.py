"""Audio baseline: RAVDESS, emotion from the voice alone (Tables 1(a) and 7)."""

_base_ = [
    '_base_/models/ravdess_audio.py',
    '_base_/classification/ravdess.py',
    '_base_/schedules/ravdess_100e.py',
]

train_dataloader = dict(dataset=dict(inputs=['audio']))
val_dataloader = dict(dataset=dict(inputs=['audio']))
test_dataloader = dict(dataset=dict(inputs=['audio']))
