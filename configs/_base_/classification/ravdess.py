"""RAVDESS (Sec. 5.1, D.2): data, scores, trained teachers and students."""

_base_ = ['../environment.py', './hooks.py']

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
loader = dict(batch_size=64, num_workers=2, collate_fn=dict(type='default_collate'))
train_dataloader = dict(
    **loader,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(csv_file='data_file/spa_dl.csv', **dataset),
)
# Every sample is scored once, on any number of processes.
score_sampler = dict(type='DefaultSampler', shuffle=False, round_up=False)
val_dataloader = dict(
    **loader,
    persistent_workers=True,
    sampler=score_sampler,
    dataset=dict(csv_file='data_file/spa_val.csv', **dataset),
)
test_dataloader = dict(
    **loader,
    sampler=score_sampler,
    dataset=dict(csv_file='data_file/spa_test.csv', **dataset),
)
val_evaluator = dict(type='ciba_bev.Accuracy')
test_evaluator = dict(type='ciba_bev.Accuracy')
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(save_best='accuracy/top1', rule='greater'),
)

image_network = dict(
    config='configs/ravdess_image.py',
    checkpoint='work_dirs/ravdess_image/best.pth',
    inputs=['image'],
    tap=dict(module='network.feature'),
)
audio_network = dict(
    config='configs/ravdess_audio.py',
    checkpoint='work_dirs/ravdess_audio/best.pth',
    inputs=['audio'],
    tap=dict(module='network.feature'),
)
fusion_network = dict(
    config='configs/ravdess_fusion.py',
    checkpoint='work_dirs/ravdess_fusion/best.pth',
    inputs=['image', 'audio'],
    tap=dict(module='network.feature'),
)
