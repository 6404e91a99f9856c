"""RAVDESS: the whole audio feature drawn to the image feature by MSE (Table 7)."""

_base_ = ['ravdess_audio.py']

model = dict(
    _delete_=True,
    type='ciba_bev.Distiller',
    student={{_base_.model}},
    student_inputs=['audio'],
    student_tap=dict(module='network.feature'),
    teacher=dict(
        config='configs/ravdess_image.py',
        checkpoint='work_dirs/ravdess_image/best.pth',
        inputs=['image'],
        tap=dict(module='network.feature'),
    ),
    loss=dict(type='ciba_bev.MSELoss'),
    loss_weight=1.0,
)
train_dataloader = dict(dataset=dict(inputs={{_base_.both}}))
