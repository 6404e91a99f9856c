"""A small single-frame camera student for the simulated world: one core trains it in minutes."""

_base_ = ['bevformer_s_r50.py']

data_root = 'data/simulated/'
bev_range = [-40.0, -40.0, -5.0, 40.0, 40.0, 3.0]
channels = 64

model = dict(
    use_grid_mask=False,
    data_preprocessor=dict(photometric_distortion=None, pad_size_divisor=16),
    img_backbone=dict(
        depth=18,
        base_channels=16,
        frozen_stages=-1,
        norm_eval=False,
        # There are no weights of this width to start from.
        init_cfg=None,
    ),
    img_neck=dict(in_channels=[32, 64, 128], out_channels=channels, num_outs=3),
    # Cells of 1.67 m. The teacher's are finer; the two maps are matched in metres.
    pts_bbox_head=dict(
        embed_dims=channels,
        num_query=200,
        bev_h=48,
        bev_w=48,
        point_cloud_range=bev_range,
        num_levels=3,
        encoder_layers=2,
        decoder_layers=3,
        num_heads=4,
        num_spatial_points=4,
        feedforward_channels=2 * channels,
        dropout=0.0,
    ),
)

train_pipeline = [
    dict(type='LoadMultiViewImageFromFiles', num_views=6, backend_args=None),
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(type='ObjectRangeFilter', point_cloud_range=bev_range),
    dict(type='ObjectNameFilter', classes={{_base_.class_names}}),
    dict(
        type='Pack3DDetInputs',
        keys=['img', 'gt_bboxes_3d', 'gt_labels_3d'],
        meta_keys={{_base_.pack_meta_keys}},
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

max_epochs = 10
optim_wrapper = dict(
    optimizer=dict(lr=1e-3), paramwise_cfg=dict(custom_keys=dict(img_backbone=dict(lr_mult=1.0)))
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=100, by_epoch=False),
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        eta_min_ratio=1e-2,
        begin=0,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
# No validation in between or at the end: tools/quickstart.py scores the last checkpoint.
train_cfg = dict(max_epochs=max_epochs, val_begin=max_epochs + 1)
