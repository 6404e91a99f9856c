"""Algorithm 1: RAVDESS, image to audio network (Fig. 5)."""

_base_ = ['_base_/classification/ravdess_bottleneck.py']

model = dict(teacher={{_base_.image_network}}, student={{_base_.audio_network}})
val_evaluator = dict(out_file='work_dirs/ravdess_bottleneck_image_to_audio/bottlenecks.json')
