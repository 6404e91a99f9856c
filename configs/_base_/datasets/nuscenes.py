"""nuScenes as every detector here sees it: classes, range, scoring, and how sensors are loaded."""

dataset_type = 'ciba_bev.NuScenesFrameDataset'
data_root = 'data/nuscenes/'
class_names = [
    'car',
    'truck',
    'construction_vehicle',
    'bus',
    'trailer',
    'barrier',
    'motorcycle',
    'bicycle',
    'pedestrian',
    'traffic_cone',
]
metainfo = dict(classes=class_names)
point_cloud_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
data_prefix = dict(
    pts='samples/LIDAR_TOP',
    sweeps='sweeps/LIDAR_TOP',
    CAM_FRONT='samples/CAM_FRONT',
    CAM_FRONT_RIGHT='samples/CAM_FRONT_RIGHT',
    CAM_FRONT_LEFT='samples/CAM_FRONT_LEFT',
    CAM_BACK='samples/CAM_BACK',
    CAM_BACK_LEFT='samples/CAM_BACK_LEFT',
    CAM_BACK_RIGHT='samples/CAM_BACK_RIGHT',
)
backend_args = None

load_points = dict(
    type='LoadPointsFromFile', coord_type='LIDAR', load_dim=5, use_dim=5, backend_args=backend_args
)
# Nine past sweeps and the key frame make ten. The fifth feature becomes the time lag. In training
# the sweeps are drawn at random where there are more, in testing they are the latest. mmdet3d's
# transform of this name misplaces the sweeps of a turning vehicle (docs/nuscenes.md).
load_sweeps = dict(
    type='ciba_bev.LoadPointsFromMultiSweeps',
    sweeps_num=9,
    load_dim=5,
    use_dim=[0, 1, 2, 3, 4],
    pad_empty_sweeps=True,
    remove_close=True,
    backend_args=backend_args,
)
load_latest_sweeps = dict(load_sweeps, test_mode=True)
# Bytes, as they are decoded: the data preprocessor distorts, normalizes and pads them.
load_images = dict(type='LoadMultiViewImageFromFiles', num_views=6, backend_args=backend_args)
load_boxes = dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True)

frames = dict(
    type=dataset_type,
    data_root=data_root,
    metainfo=metainfo,
    data_prefix=data_prefix,
    box_type_3d='LiDAR',
    backend_args=backend_args,
)
train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        **frames, ann_file='nuscenes_infos_train.pkl', use_valid_flag=True, test_mode=False
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    # Every frame once, and scenes whole: scores are the same on any number of processes, also of
    # students that carry their BEV map from frame to frame.
    sampler=dict(type='ciba_bev.SceneSequenceSampler'),
    dataset=dict(**frames, ann_file='nuscenes_infos_val.pkl', test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='ciba_bev.NuScenesDetectionMetric',
    data_root=data_root,
    ann_file=data_root + 'nuscenes_infos_val.pkl',
    metric='bbox',
    backend_args=backend_args,
)
test_evaluator = val_evaluator
