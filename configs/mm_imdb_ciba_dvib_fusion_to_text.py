"""CIBA (H = 32), DVIB: MM-IMDB text network distilled from fusion network (Table 1(b))."""

_base_ = ['mm_imdb_mse_fusion_to_text.py']

model = dict(
    bottleneck=dict(
        config='configs/mm_imdb_bottleneck_dvib_fusion_to_text.py',
        checkpoint='work_dirs/mm_imdb_bottleneck_dvib_fusion_to_text/best.pth',
        size=32,
    )
)
