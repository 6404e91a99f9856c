"""Synthetic data: the linear teachers of all repeats and all D_g (Figs. 3, 8 and 9)."""

_base_ = ['_base_/classification/synthetic.py']

model = dict(type='ciba_bev.SyntheticTeachers', members=40, dims=50, features=50)
