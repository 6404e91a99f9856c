"""Object-DGCNN, LiDAR, 0.1 m voxels: the teacher of the paper (Table 2, Obj-DGCNN)."""

_base_ = [
    '_base_/models/object_dgcnn_voxel01.py',
    '_base_/datasets/nuscenes_lidar.py',
    '_base_/schedules/cyclic_20e.py',
    '_base_/default_runtime.py',
]
