"""Simulated nuScenes, single frames: cameras, both sensors, and the features of Algorithm 1."""

_base_ = ['./nuscenes.py']

data_root = 'data/simulated/'
# The simulated LiDAR sees 40 m.
point_cloud_range = [-40.0, -40.0, -5.0, 40.0, 40.0, 3.0]

load_images = dict(type='ciba_bev.LoadMultiViewImageFromFiles', num_views=6, backend_args=None)
# Recorded without intermediate sweeps.
load_both_sensors = [
    dict(type='LoadPointsFromFile', coord_type='LIDAR', load_dim=5, use_dim=4, backend_args=None),
    dict(type='PointsRangeFilter', point_cloud_range=point_cloud_range),
    load_images,
]
targets = [
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(type='ObjectRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='ObjectNameFilter', classes={{_base_.class_names}}),
]
train_pipeline = [
    load_images,
    *targets,
    dict(
        type='ciba_bev.Pack3DDetInputs',
        keys=['img', 'gt_bboxes_3d', 'gt_labels_3d'],
        meta_keys={{_base_.pack_meta_keys}},
    ),
]
lidar_camera_pipeline = [
    *load_both_sensors,
    *targets,
    dict(
        type='ciba_bev.Pack3DDetInputs',
        keys=['points', 'img', 'gt_bboxes_3d', 'gt_labels_3d'],
        meta_keys={{_base_.pack_meta_keys}},
    ),
]
# Algorithm 1 needs both sensors in validation too, and no annotations.
feature_pipeline = [
    *load_both_sensors,
    dict(
        type='ciba_bev.Pack3DDetInputs', keys=['points', 'img'], meta_keys={{_base_.pack_meta_keys}}
    ),
]

train_dataloader = dict(
    # Many small steps: the decoder takes its first hundreds to learn where to look.
    batch_size=1,
    num_workers=1,
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(data_root=data_root, ann_file=data_root + 'nuscenes_infos_val.pkl')
test_evaluator = val_evaluator
