"""Synthetic data without Gram-Schmidt (Appendix E.6): the linear teachers."""

_base_ = ['synthetic_teachers.py']

train_dataloader = dict(dataset=dict(orthogonal=False))
val_dataloader = dict(dataset=dict(orthogonal=False))
test_dataloader = val_dataloader
