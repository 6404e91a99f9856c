"""Synthetic data, cross-entropy between softmaxed features: as synthetic_mse.py (Fig. 9)."""

_base_ = ['synthetic_mse.py']

# Of 50 features a softmax passes a fiftieth of the curvature that the squared distance has.
model = dict(loss='cross_entropy', loss_weight=50.0)
val_evaluator = dict(out_file='work_dirs/synthetic_cross_entropy/synthetic.json')
test_evaluator = val_evaluator
