# MM-IMDB, text network.
model = dict(
    type='ciba_bev.Classifier',
    network=dict(type='ciba_bev.MMIMDBNetwork', modality='text', in_channels=300),
    inputs=['text'],
    multi_label=True,
)
