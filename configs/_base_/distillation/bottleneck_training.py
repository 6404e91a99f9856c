"""Algorithm 1, from Object-DGCNN to BEVFormer: bottlenecks of all sizes of Table 2 in one run.

The loss is Eq. 7 as it stands (lambda = 1, squared distances and divergences summed over channels).
"""

_base_ = [
    './object_dgcnn_to_bevformer.py',
    './bottleneck_optimizer.py',
    '../schedules/annealing.py',
]

model = dict(
    type='ciba_bev.BottleneckTraining',
    teacher={{_base_.teacher}},
    # With config and checkpoint.
    student=dict(inputs=['img'], tap={{_base_.student_tap}}),
    bottleneck=dict(type='ciba_bev.VariationalBottleneck', in_channels=256, out_channels=256),
    bottleneck_sizes=[2, 4, 8, 16, 32, 64, 128],
)

# Millions of cells a pass: a few passes are many steps for networks this small.
max_epochs = 3
param_scheduler = [
    dict(_base_.warm_up, end=200),
    dict(_base_.cosine, by_epoch=True, T_max=max_epochs, end=max_epochs),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
auto_scale_lr = dict(enable=False, base_batch_size=8)
# No student is trained whose spectrum could be watched.
custom_hooks = []
