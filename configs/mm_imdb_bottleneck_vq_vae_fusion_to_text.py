"""Algorithm 1: MM-IMDB, fusion to text network, VQ-VAE (Fig. 11)."""

_base_ = ['_base_/classification/mm_imdb_bottleneck.py']

model = dict(
    teacher={{_base_.fusion_network}},
    student={{_base_.text_network}},
    bottleneck={{_base_.vq_vae}},
)
val_evaluator = dict(out_file='work_dirs/mm_imdb_bottleneck_vq_vae_fusion_to_text/bottlenecks.json')
