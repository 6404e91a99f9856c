"""MM-IMDB: the genres from poster and plot; the fusion-baseline of Table 1(b)."""

_base_ = ['_base_/classification/mm_imdb.py']

model = dict(
    type='ciba_bev.Classifier',
    network=dict(type='ciba_bev.MMIMDBFusionNetwork'),
    inputs=['image', 'text'],
    multi_label=True,
)
