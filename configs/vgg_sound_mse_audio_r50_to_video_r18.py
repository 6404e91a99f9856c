"""VGG-Sound: the whole video feature drawn to the audio feature of a ResNet-50 by MSE (Table 3)."""

_base_ = ['vgg_sound_video_r18.py']

model = dict(
    _delete_=True,
    type='ciba_bev.Distiller',
    student={{_base_.model}},
    student_inputs=['video'],
    student_tap=dict(module='network.feature'),
    teacher=dict(
        config='configs/vgg_sound_audio_r50.py',
        checkpoint='work_dirs/vgg_sound_audio_r50/best.pth',
        inputs=['audio'],
        tap=dict(module='network.narrowed'),
    ),
    loss=dict(type='ciba_bev.MSELoss'),
    loss_weight=1.0,
)
train_dataloader = dict(dataset=dict(inputs={{_base_.both}}))
