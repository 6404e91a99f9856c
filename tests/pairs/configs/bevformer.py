"""Model config: our single-frame BEVFormer, a map of 20 x 20 cells of 4 m, and the tiny data."""

_base_ = ['../../../configs/quickstart_bevformer.py']

model = dict(
    img_backbone=dict(base_channels=8, norm_eval=True),
    img_neck=dict(in_channels=[16, 32, 64], out_channels=16),
    pts_bbox_head=dict(
        embed_dims=16,
        num_query=20,
        bev_h=20,
        bev_w=20,
        encoder_layers=1,
        decoder_layers=1,
        num_heads=2,
        feedforward_channels=32,
    ),
)
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
default_hooks = dict(logger=dict(interval=1))
train_cfg = dict(max_epochs=1, val_begin=1, val_interval=1)
