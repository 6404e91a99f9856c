"""Model config: clips classified by their picture."""

default_scope = 'sight_and_sound'
custom_imports = dict(imports=['sight_and_sound', 'ciba_bev'])

model = dict(
    type='ClipClassifier',
    reads='picture',
    backbone=dict(type='PictureBackbone'),
    channels=12,
    num_classes=4,
)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='ClipDataset', length=16, inputs=['picture']),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ClipDataset', length=8, first=16, inputs=['picture']),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='ClipAccuracy')
test_evaluator = val_evaluator
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-2))
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(logger=dict(type='LoggerHook', interval=1))
randomness = dict(seed=0)
