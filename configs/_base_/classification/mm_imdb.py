# MM-IMDB: data, schedule and scores of all its experiments (Sec. 5.2, D.3).
_base_ = ['./runtime.py']

both = ['image', 'text']

dataset = dict(type='ciba_bev.MMIMDBDataset', file='data/mm_imdb/multimodal_imdb.hdf5', inputs=both)
# The rows are in memory, and a batch is one look-up: workers would only copy it.
loader = dict(batch_size=128, num_workers=0, collate_fn=dict(type='ciba_bev.as_it_is'))
train_dataloader = dict(
    **loader,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**dataset, split='train'),
)
val_dataloader = dict(
    **loader,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**dataset, split='val'),
)
test_dataloader = dict(
    **loader,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**dataset, split='test'),
)
val_evaluator = dict(type='ciba_bev.F1Score')
test_evaluator = dict(type='ciba_bev.F1Score')

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01))
default_hooks = dict(
    # The paper does not say by what it chooses the epoch; micro counts every decision alike.
    checkpoint=dict(interval=100, save_best='f1/micro', rule='greater'),
)
