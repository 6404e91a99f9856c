"""Algorithm 1: RAVDESS, fusion to image network (Fig. 5)."""

_base_ = ['_base_/classification/ravdess_bottleneck.py']

model = dict(teacher={{_base_.fusion_network}}, student={{_base_.image_network}})
val_evaluator = dict(out_file='work_dirs/ravdess_bottleneck_fusion_to_image/bottlenecks.json')
