# RAVDESS: data, schedule and scores of all its experiments (Sec. 5.1, D.2).
_base_ = ['./runtime.py']

data_root = 'data/ravdess/'
both = ['audio', 'image']

dataset = dict(
    type='ciba_bev.RavdessDataset',
    data_root=data_root,
    inputs=both,
    # Of the published features; tools/prepare_ravdess.py measures its own.
    audio_mean=-10.59,
    audio_std=85.66,
    # Of the published frames. Images of another size are refused, or resized if so wanted.
    image_size=[256, 512],
    resize_images=False,
)
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(csv_file='data_file/spa_dl.csv', **dataset),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(csv_file='data_file/spa_val.csv', **dataset),
)
test_dataloader = dict(
    batch_size=64,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(csv_file='data_file/spa_test.csv', **dataset),
)
val_evaluator = dict(type='ciba_bev.Accuracy')
test_evaluator = dict(type='ciba_bev.Accuracy')

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(save_best='accuracy/top1', rule='greater'),
)
