"""A small single-frame camera student for the simulated world: two cores train it in minutes."""

_base_ = ['bevformer_s_r50.py']

data_root = 'data/simulated/'
channels = 64

model = dict(
    use_grid_mask=False,
    data_preprocessor=dict(pad_size_divisor=16),
    img_backbone=dict(
        depth=18,
        base_channels=24,
        frozen_stages=-1,
        norm_eval=False,
        # Weights for this width do not exist; it learns from nothing.
        init_cfg=None,
    ),
    img_neck=dict(in_channels=[48, 96, 192], out_channels=channels, num_outs=3),
    # 64 x 64 cells of 1.6 m, as the teacher's first level.
    pts_bbox_head=dict(
        embed_dims=channels,
        num_query=200,
        bev_h=64,
        bev_w=64,
        num_levels=3,
        encoder_layers=2,
        decoder_layers=3,
        num_heads=4,
        num_spatial_points=4,
        feedforward_channels=2 * channels,
        dropout=0.0,
    ),
)

train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(data_root=data_root))
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(data_root=data_root, ann_file=data_root + 'nuscenes_infos_val.pkl')
test_evaluator = val_evaluator

max_epochs = 20
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
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
