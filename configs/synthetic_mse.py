"""Synthetic data, MSE: students distilled alone and with the task loss (Figs. 3 and 8)."""

_base_ = ['_base_/classification/synthetic.py']

model = dict(
    type='ciba_bev.SyntheticDistillation',
    teacher_checkpoint='work_dirs/synthetic_teachers/iter_1000.pth',
    teacher_config='configs/synthetic_teachers.py',
    general_dims={{_base_.general_dims}},
    repeats={{_base_.repeats}},
    dims={{_base_.dims}},
    features=50,
)
val_evaluator = dict(out_file='work_dirs/synthetic_mse/synthetic.json')
test_evaluator = val_evaluator
