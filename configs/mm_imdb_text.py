"""Text baseline: MM-IMDB, genres from the plot alone (Table 1(b))."""

_base_ = [
    '_base_/models/mm_imdb_text.py',
    '_base_/classification/mm_imdb.py',
    '_base_/schedules/mm_imdb_100e.py',
]

train_dataloader = dict(dataset=dict(inputs=['text']))
val_dataloader = dict(dataset=dict(inputs=['text']))
test_dataloader = dict(dataset=dict(inputs=['text']))
