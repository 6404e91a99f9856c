"""Image baseline: MM-IMDB, genres from the poster alone (Table 1(b))."""

_base_ = [
    '_base_/classification/mm_imdb.py',
    '_base_/schedules/mm_imdb_100e.py',
]

model = dict(
    type='ciba_bev.Classifier',
    network=dict(type='ciba_bev.MMIMDBNetwork', modality='image', in_channels=4096),
    inputs=['image'],
    multi_label=True,
)
train_dataloader = dict(dataset=dict(inputs=['image']))
val_dataloader = dict(dataset=dict(inputs=['image']))
test_dataloader = dict(dataset=dict(inputs=['image']))
