"""MSE: VGG-Sound audio ResNet-18 distilled from a video ResNet-50, whole feature (Table 3)."""

_base_ = [
    '_base_/models/vgg_sound_audio_r18.py',
    '_base_/classification/vgg_sound.py',
    '_base_/schedules/vgg_sound_50e.py',
]

model = dict(
    _delete_=True,
    type='ciba_bev.Distiller',
    teacher=dict(_base_.video_r50, tap=_base_.narrowed),
    student={{_base_.model}},
    student_inputs=['audio'],
    student_tap=_base_.audio_r18.tap,
    loss=dict(type='ciba_bev.MSELoss'),
    loss_weight=1.0,
)
# In training the teacher's input is loaded too.
val_dataloader = dict(dataset=dict(inputs=['audio']))
test_dataloader = dict(dataset=dict(inputs=['audio']))
