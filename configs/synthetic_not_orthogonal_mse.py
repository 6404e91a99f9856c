"""Synthetic data that are not completely separated, MSE: as synthetic_mse.py (Fig. 10)."""

_base_ = ['synthetic_mse.py']

model = dict(
    teacher_checkpoint='work_dirs/synthetic_not_orthogonal_teachers/iter_1000.pth',
    teacher_config='configs/synthetic_not_orthogonal_teachers.py',
)
train_dataloader = dict(dataset=dict(orthogonal=False))
val_dataloader = dict(dataset=dict(orthogonal=False))
test_dataloader = val_dataloader
val_evaluator = dict(out_file='work_dirs/synthetic_not_orthogonal_mse/synthetic.json')
test_evaluator = val_evaluator
