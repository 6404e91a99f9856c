"""The quickstart's student: 10 epochs of AdamW, one rate for all parts."""

_base_ = ['./cosine_24e.py', './annealing.py']

max_epochs = 10
optim_wrapper = dict(
    optimizer=dict(lr=1e-3), paramwise_cfg=dict(custom_keys=dict(img_backbone=dict(lr_mult=1.0)))
)
param_scheduler = [
    dict(_base_.warm_up, end=100),
    dict(_base_.cosine, T_max=max_epochs, end=max_epochs),
]
# No validation in between or at the end: tools/quickstart.py scores the last checkpoint.
train_cfg = dict(max_epochs=max_epochs, val_begin=max_epochs + 1)
