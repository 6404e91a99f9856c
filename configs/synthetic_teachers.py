"""Synthetic data: the linear teachers of all repeats and all D_g."""

_base_ = ['_base_/classification/synthetic.py']

model = dict(type='ciba_bev.SyntheticTeachers', members=40, dims=50, features=50)
