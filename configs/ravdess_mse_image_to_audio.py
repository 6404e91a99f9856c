"""MSE: RAVDESS audio network distilled from the image network, whole feature (Table 7)."""

_base_ = [
    '_base_/models/ravdess_audio.py',
    '_base_/classification/ravdess.py',
    '_base_/schedules/ravdess_100e.py',
]

model = dict(
    _delete_=True,
    type='ciba_bev.Distiller',
    teacher={{_base_.image_network}},
    student={{_base_.model}},
    student_inputs=['audio'],
    student_tap=_base_.audio_network.tap,
    loss=dict(type='ciba_bev.MSELoss'),
    loss_weight=1.0,
)
# In training the teacher's input is loaded too.
val_dataloader = dict(dataset=dict(inputs=['audio']))
test_dataloader = dict(dataset=dict(inputs=['audio']))
