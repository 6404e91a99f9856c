"""Algorithm 1: MM-IMDB, fusion to text network, DVIB (Fig. 11)."""

_base_ = ['_base_/classification/mm_imdb_bottleneck.py']

model = dict(
    teacher={{_base_.fusion_network}},
    student={{_base_.text_network}},
    bottleneck={{_base_.dvib}},
)
val_evaluator = dict(out_file='work_dirs/mm_imdb_bottleneck_dvib_fusion_to_text/bottlenecks.json')
