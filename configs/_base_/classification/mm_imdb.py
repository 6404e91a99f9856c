"""MM-IMDB (Sec. 5.2, D.3): data, scores, trained teachers and students."""

_base_ = ['../environment.py', './hooks.py']

both = ['image', 'text']

dataset = dict(type='ciba_bev.MMIMDBDataset', file='data/mm_imdb/multimodal_imdb.hdf5', inputs=both)
# The rows are in memory, and a batch is one look-up: workers would only copy it.
loader = dict(batch_size=128, num_workers=0, collate_fn=dict(type='ciba_bev.as_it_is'))
train_dataloader = dict(
    **loader,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**dataset, split='train'),
)
# Every sample is scored once, on any number of processes.
score_sampler = dict(type='DefaultSampler', shuffle=False, round_up=False)
val_dataloader = dict(**loader, sampler=score_sampler, dataset=dict(**dataset, split='val'))
test_dataloader = dict(**loader, sampler=score_sampler, dataset=dict(**dataset, split='test'))
val_evaluator = dict(type='ciba_bev.F1Score')
test_evaluator = dict(type='ciba_bev.F1Score')
default_hooks = dict(
    # The paper does not say by what it chooses the epoch; micro counts every decision alike.
    checkpoint=dict(interval=100, save_best='f1/micro', rule='greater'),
)

image_network = dict(
    config='configs/mm_imdb_image.py',
    checkpoint='work_dirs/mm_imdb_image/best.pth',
    inputs=['image'],
    tap=dict(module='network.feature'),
)
text_network = dict(
    config='configs/mm_imdb_text.py',
    checkpoint='work_dirs/mm_imdb_text/best.pth',
    inputs=['text'],
    tap=dict(module='network.feature'),
)
fusion_network = dict(
    config='configs/mm_imdb_fusion.py',
    checkpoint='work_dirs/mm_imdb_fusion/best.pth',
    inputs=['image', 'text'],
    tap=dict(module='network.feature'),
)
