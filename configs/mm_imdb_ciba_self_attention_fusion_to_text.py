"""CIBA (H = 32), self-attention: MM-IMDB text network from fusion network (Table 1(b))."""

_base_ = ['mm_imdb_mse_fusion_to_text.py']

model = dict(
    bottleneck=dict(
        config='configs/mm_imdb_bottleneck_self_attention_fusion_to_text.py',
        checkpoint='work_dirs/mm_imdb_bottleneck_self_attention_fusion_to_text/best.pth',
        size=32,
    )
)
