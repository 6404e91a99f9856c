"""MM-IMDB: the genres from the plot alone; the text-baseline of Table 1(b)."""

_base_ = ['_base_/classification/mm_imdb.py']

model = dict(
    type='ciba_bev.Classifier',
    network=dict(type='ciba_bev.MMIMDBNetwork', modality='text', in_channels=300),
    inputs=['text'],
    multi_label=True,
)
train_dataloader = dict(dataset=dict(inputs=['text']))
val_dataloader = dict(dataset=dict(inputs=['text']))
test_dataloader = dict(dataset=dict(inputs=['text']))
