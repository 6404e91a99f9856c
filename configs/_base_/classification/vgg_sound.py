"""VGG-Sound, 100 classes (Sec. 5.4, D.5): data, scores, trained teachers and students."""

_base_ = ['../environment.py', './hooks.py']

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
loader = dict(batch_size=32, num_workers=8, collate_fn=dict(type='default_collate'))
train_dataloader = dict(
    **loader,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(csv_file='train.csv', **dataset),
)
# Every sample is scored once, on any number of processes.
score_sampler = dict(type='DefaultSampler', shuffle=False, round_up=False)
val_dataloader = dict(
    **loader,
    persistent_workers=True,
    sampler=score_sampler,
    dataset=dict(csv_file='val.csv', **dataset),
)
test_dataloader = dict(
    **loader,
    sampler=score_sampler,
    dataset=dict(csv_file='test.csv', **dataset),
)
val_evaluator = dict(type='ciba_bev.Accuracy')
test_evaluator = dict(type='ciba_bev.Accuracy')
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(save_best='accuracy/top1', rule='greater'),
)

audio_r18 = dict(
    config='configs/vgg_sound_audio_r18.py',
    checkpoint='work_dirs/vgg_sound_audio_r18/best.pth',
    inputs=['audio'],
    tap=dict(module='network.feature'),
)
audio_r50 = dict(
    config='configs/vgg_sound_audio_r50.py',
    checkpoint='work_dirs/vgg_sound_audio_r50/best.pth',
    inputs=['audio'],
    tap=dict(module='network.feature'),
)
video_r18 = dict(
    config='configs/vgg_sound_video_r18.py',
    checkpoint='work_dirs/vgg_sound_video_r18/best.pth',
    inputs=['video'],
    tap=dict(module='network.feature'),
)
video_r50 = dict(
    config='configs/vgg_sound_video_r50.py',
    checkpoint='work_dirs/vgg_sound_video_r50/best.pth',
    inputs=['video'],
    tap=dict(module='network.feature'),
)
# What a student of 512 channels is compared with where the whole feature is distilled.
narrowed = dict(module='network.narrowed')
