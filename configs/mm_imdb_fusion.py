"""Fusion baseline: MM-IMDB, genres from poster and plot (Table 1(b))."""

_base_ = [
    '_base_/classification/mm_imdb.py',
    '_base_/schedules/mm_imdb_100e.py',
]

model = dict(
    type='ciba_bev.Classifier',
    network=dict(type='ciba_bev.MMIMDBFusionNetwork'),
    inputs=['image', 'text'],
    multi_label=True,
)
