"""CIBA: a classifier of sounds into a classifier of pictures."""

_base_ = ['picture_classifier.py']

both_inputs = ['picture', 'sound']
model = dict(
    _delete_=True,
    type='ciba_bev.Distiller',
    student={{_base_.model}},
    student_inputs=['picture'],
    student_tap=dict(module='backbone'),
    teacher=dict(
        config='{{ fileDirname }}/sound_classifier.py',
        checkpoint='work_dirs/sound_classifier.pth',
        inputs=['sound'],
        tap=dict(module='backbone'),
    ),
    bottleneck=dict(
        config='{{ fileDirname }}/bottleneck_sound_picture.py',
        checkpoint='work_dirs/bottleneck_sound_picture/epoch_1.pth',
        size=4,
    ),
)
train_dataloader = dict(dataset=dict(inputs=both_inputs))
custom_hooks = [dict(type='ciba_bev.DistillationRecordHook')]
