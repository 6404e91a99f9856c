"""Synthetic data without Gram-Schmidt: the linear teachers (Fig. 10, Appendix E.6)."""

_base_ = ['synthetic_teachers.py']

train_dataloader = dict(dataset=dict(orthogonal=False))
val_dataloader = dict(dataset=dict(orthogonal=False))
test_dataloader = val_dataloader
