"""MM-IMDB, MSE: the text network imitates the whole feature of the image network."""

_base_ = ['mm_imdb_text.py']

feature = dict(module='network.feature')

model = dict(
    _delete_=True,
    type='ciba_bev.Distiller',
    student={{_base_.model}},
    student_inputs=['text'],
    student_tap=feature,
    teacher=dict(
        config='configs/mm_imdb_image.py',
        checkpoint='work_dirs/mm_imdb_image/best.pth',
        inputs=['image'],
        tap=feature,
    ),
    loss=dict(type='ciba_bev.MSELoss'),
    loss_weight=1.0,
)
train_dataloader = dict(dataset=dict(inputs={{_base_.both}}))
