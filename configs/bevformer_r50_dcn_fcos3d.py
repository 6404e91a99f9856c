"""BEVFormer R50 with deformable convolutions in stages 3 and 4, from FCOS3D weights."""

_base_ = ['bevformer_r50.py']

model = dict(
    img_backbone=dict(
        norm_cfg=dict(type='BN', requires_grad=False),
        dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, False, True, True),
        # The backbone of an FCOS3D, by tools/convert_checkpoint.py --model fcos3d_r50.
        init_cfg=dict(checkpoint='pretrained/fcos3d_r50.pth', prefix='img_backbone.'),
    )
)
