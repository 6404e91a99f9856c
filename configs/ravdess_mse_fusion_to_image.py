"""MSE: RAVDESS image network distilled from the fusion network, whole feature (Table 7)."""

_base_ = [
    '_base_/models/ravdess_image.py',
    '_base_/classification/ravdess.py',
    '_base_/schedules/ravdess_100e.py',
]

model = dict(
    _delete_=True,
    type='ciba_bev.Distiller',
    teacher={{_base_.fusion_network}},
    student={{_base_.model}},
    student_inputs=['image'],
    student_tap=_base_.image_network.tap,
    loss=dict(type='ciba_bev.MSELoss'),
    loss_weight=1.0,
)
# In training the teacher's input is loaded too.
val_dataloader = dict(dataset=dict(inputs=['image']))
test_dataloader = dict(dataset=dict(inputs=['image']))
