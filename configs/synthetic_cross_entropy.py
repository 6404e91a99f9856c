"""Figure 9: as synthetic_mse.py, distilled with cross-entropy between softmaxed features."""

_base_ = ['synthetic_mse.py']

# Of 50 features a softmax passes a fiftieth of the curvature that the squared distance has.
model = dict(loss='cross_entropy', loss_weight=50.0)
val_evaluator = dict(out_file='work_dirs/synthetic_cross_entropy/synthetic.json')
test_evaluator = val_evaluator
