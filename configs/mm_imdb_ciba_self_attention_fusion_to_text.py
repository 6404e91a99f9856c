"""MM-IMDB, CIBA: the text network's first 32 channels follow a code by a bottleneck with self-attention, fusion to text."""

_base_ = ['mm_imdb_mse_fusion_to_text.py']

model = dict(
    bottleneck=dict(
        config='configs/mm_imdb_bottleneck_self_attention_fusion_to_text.py',
        checkpoint='work_dirs/mm_imdb_bottleneck_self_attention_fusion_to_text/best.pth',
        size=32,
    )
)
