"""MM-IMDB: the genres from the poster alone; the image-baseline of Table 1(b)."""

_base_ = ['_base_/classification/mm_imdb.py']

model = dict(
    type='ciba_bev.Classifier',
    network=dict(type='ciba_bev.MMIMDBNetwork', modality='image', in_channels=4096),
    inputs=['image'],
    multi_label=True,
)
train_dataloader = dict(dataset=dict(inputs=['image']))
val_dataloader = dict(dataset=dict(inputs=['image']))
test_dataloader = dict(dataset=dict(inputs=['image']))
