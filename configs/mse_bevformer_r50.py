"""Table 2, MSE: the student imitates all 256 channels of the teacher's BEV map."""

_base_ = [
    '_base_/models/bevformer_r50.py',
    '_base_/datasets/nuscenes_lidar_camera_sequence.py',
    '_base_/schedules/cosine_24e.py',
    '_base_/distillation/taps_128.py',
    '_base_/default_runtime.py',
]

model = dict(
    _delete_=True,
    type='ciba_bev.Distiller',
    student={{_base_.model}},
    student_inputs=['img'],
    student_tap={{_base_.student_tap}},
    teacher={{_base_.teacher}},
    loss=dict(type='ciba_bev.MSELoss'),
    loss_weight=1.0,
)
custom_hooks = [
    dict(type='ciba_bev.CheckDataHook'),
    dict(type='ciba_bev.LossAveragingHook'),
    dict(type='ciba_bev.DistillationRecordHook'),
    # Logs the spectrum of the student's map, its effective rank and the energy in channels [0:H].
    dict(type='ciba_bev.SpectrumHook'),
]
