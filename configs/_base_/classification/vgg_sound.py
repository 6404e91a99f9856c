# VGG-Sound, 100 classes: data, schedule and scores of all its experiments (Sec. 5.4, D.5).
_base_ = ['./runtime.py']

data_root = 'data/vgg_sound/'
both = ['audio', 'video']

dataset = dict(
    type='ciba_bev.VGGSoundDataset',
    data_root=data_root,
    inputs=both,
    classes=100,
    audio_size=[513, 313],
    frame_size=[256, 256],
)
train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(csv_file='train.csv', **dataset),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(csv_file='val.csv', **dataset),
)
test_dataloader = dict(
    batch_size=32,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(csv_file='test.csv', **dataset),
)
val_evaluator = dict(type='ciba_bev.Accuracy')
test_evaluator = dict(type='ciba_bev.Accuracy')

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=50, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=5e-5))
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(save_best='accuracy/top1', rule='greater'),
)
