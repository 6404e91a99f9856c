"""Algorithm 1: MM-IMDB, image to text network, self-attention (Fig. 11)."""

_base_ = ['_base_/classification/mm_imdb_bottleneck.py']

model = dict(
    teacher={{_base_.image_network}},
    student={{_base_.text_network}},
    bottleneck={{_base_.self_attention}},
)
val_evaluator = dict(
    out_file='work_dirs/mm_imdb_bottleneck_self_attention_image_to_text/bottlenecks.json'
)
