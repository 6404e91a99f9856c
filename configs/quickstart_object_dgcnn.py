"""Quickstart: a small Object-DGCNN on simulated data, trained in minutes on one core."""

_base_ = ['objectdgcnn_pillar02.py', '_base_/schedules/annealing.py']

data_root = 'data/simulated/'
# The simulated LiDAR sees 40 m.
bev_range = [-40.0, -40.0, -5.0, 40.0, 40.0, 3.0]
voxel_size = [0.625, 0.625, 8]
channels = 64

model = dict(
    # There are no weights with this number of channels to start from.
    init_cfg=None,
    data_preprocessor=dict(
        voxel_layer=dict(
            max_num_points=12,
            voxel_size=voxel_size,
            max_voxels=[8000, 8000],
            point_cloud_range=bev_range,
        )
    ),
    pts_voxel_encoder=dict(
        in_channels=4,
        feat_channels=[48],
        voxel_size=voxel_size,
        point_cloud_range=bev_range,
    ),
    pts_middle_encoder=dict(in_channels=48, output_shape=[128, 128]),
    pts_backbone=dict(
        in_channels=48, out_channels=[64, 96], layer_nums=[2, 2], layer_strides=[2, 2]
    ),
    # Levels of 64 x 64 and 32 x 32 cells.
    pts_neck=dict(in_channels=[64, 96], out_channels=channels, num_outs=2),
    pts_bbox_head=dict(
        embed_dims=channels,
        num_levels=2,
        num_query=200,
        point_cloud_range=bev_range,
        encoder_layers=1,
        decoder_layers=3,
        num_heads=4,
        feedforward_channels=2 * channels,
        dropout=0.0,
    ),
)

# Recorded without intermediate sweeps.
load_one_sweep = dict(
    type='LoadPointsFromFile', coord_type='LIDAR', load_dim=5, use_dim=4, backend_args=None
)
train_pipeline = [
    load_one_sweep,
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(
        type='GlobalRotScaleTrans',
        rot_range=[-0.3925, 0.3925],
        scale_ratio_range=[0.95, 1.05],
        translation_std=[0, 0, 0],
    ),
    # No flips: only the side of the road tells the front of a simulated vehicle from its back.
    dict(type='PointsRangeFilter', point_cloud_range=bev_range),
    dict(type='ObjectRangeFilter', point_cloud_range=bev_range),
    dict(type='ObjectNameFilter', classes={{_base_.class_names}}),
    dict(type='PointShuffle'),
    dict(
        type='Pack3DDetInputs',
        keys=['points', 'gt_bboxes_3d', 'gt_labels_3d'],
        meta_keys={{_base_.pack_meta_keys}},
    ),
]
test_pipeline = [
    load_one_sweep,
    dict(type='PointsRangeFilter', point_cloud_range=bev_range),
    dict(type='Pack3DDetInputs', keys=['points'], meta_keys={{_base_.pack_meta_keys}}),
]
train_dataloader = dict(
    # Many small steps: the decoder takes its first hundreds to learn where to look.
    batch_size=1,
    num_workers=1,
    # Classes are balanced in the simulated data, so frames are not repeated.
    dataset=dict(
        _delete_=True,
        type={{_base_.dataset_type}},
        data_root=data_root,
        ann_file='nuscenes_infos_train.pkl',
        pipeline=train_pipeline,
        metainfo={{_base_.metainfo}},
        modality={{_base_.input_modality}},
        data_prefix={{_base_.data_prefix}},
        use_valid_flag=True,
        box_type_3d='LiDAR',
    ),
)
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(data_root=data_root, ann_file=data_root + 'nuscenes_infos_val.pkl')
test_evaluator = val_evaluator

max_epochs = 8
optim_wrapper = dict(optimizer=dict(lr=1e-3, betas=(0.9, 0.99)), paramwise_cfg=None)
param_scheduler = [
    dict(_base_.warm_up, end=100),
    dict(_base_.cosine, T_max=max_epochs, end=max_epochs),
]
# No validation in between or at the end: tools/quickstart.py scores the last checkpoint.
train_cfg = dict(max_epochs=max_epochs, val_begin=max_epochs + 1)
