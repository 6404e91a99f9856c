"""Table 2, CIBA with a code of 16 channels."""

_base_ = ['ciba_bevformer_r50_h4.py']

model = dict(bottleneck=dict(size=16))
