"""Object-DGCNN, LiDAR, 0.2 m pillars: a lighter teacher."""

_base_ = [
    '_base_/models/object_dgcnn_pillar02.py',
    '_base_/datasets/nuscenes_lidar.py',
    '_base_/schedules/cyclic_20e.py',
    '_base_/default_runtime.py',
]

# As published: the pillar encoder learns at a tenth of the rate.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(pts_voxel_encoder=dict(lr_mult=0.1))))
