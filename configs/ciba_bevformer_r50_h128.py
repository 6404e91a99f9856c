"""CIBA (H = 128): BEVFormer R50 distilled from Object-DGCNN, 128-channel bottleneck (Table 2)."""

_base_ = ['ciba_bevformer_r50_h4.py']

model = dict(bottleneck=dict(size=128))
