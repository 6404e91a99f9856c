"""RAVDESS: the whole image feature drawn to the audio feature by MSE (Tables 1(a) and 7)."""

_base_ = ['ravdess_image.py']

model = dict(
    _delete_=True,
    type='ciba_bev.Distiller',
    student={{_base_.model}},
    student_inputs=['image'],
    student_tap=dict(module='network.feature'),
    teacher=dict(
        config='configs/ravdess_audio.py',
        checkpoint='work_dirs/ravdess_audio/best.pth',
        inputs=['audio'],
        tap=dict(module='network.feature'),
    ),
    loss=dict(type='ciba_bev.MSELoss'),
    loss_weight=1.0,
)
train_dataloader = dict(dataset=dict(inputs={{_base_.both}}))
