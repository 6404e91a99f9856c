"""MSE: MM-IMDB text network distilled from the image network, whole feature (Table 1(b))."""

_base_ = [
    '_base_/models/mm_imdb_text.py',
    '_base_/classification/mm_imdb.py',
    '_base_/schedules/mm_imdb_100e.py',
]

model = dict(
    _delete_=True,
    type='ciba_bev.Distiller',
    teacher={{_base_.image_network}},
    student={{_base_.model}},
    student_inputs=['text'],
    student_tap=_base_.text_network.tap,
    loss=dict(type='ciba_bev.MSELoss'),
    loss_weight=1.0,
)
# In training the teacher's input is loaded too.
val_dataloader = dict(dataset=dict(inputs=['text']))
test_dataloader = dict(dataset=dict(inputs=['text']))
