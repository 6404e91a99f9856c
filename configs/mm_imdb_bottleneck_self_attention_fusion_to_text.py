"""MM-IMDB, Algorithm 1: a bottleneck with self-attention, fusion to text."""

_base_ = ['mm_imdb_bottleneck_dvib_fusion_to_text.py']

model = dict(
    bottleneck=dict(
        _delete_=True,
        type='ciba_bev.SelfAttentionBottleneck',
        in_channels=64,
        out_channels=64,
        # The features have no grid: the halves of a code attend to each other, at every size.
        channel_groups=2,
    )
)
val_evaluator = dict(
    out_file='work_dirs/mm_imdb_bottleneck_self_attention_fusion_to_text/bottlenecks.json'
)
