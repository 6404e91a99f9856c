"""MM-IMDB, Algorithm 1: a vector-quantised bottleneck (VQ-VAE), image to text."""

_base_ = ['mm_imdb_bottleneck_dvib_image_to_text.py']

model = dict(
    bottleneck=dict(
        _delete_=True, type='ciba_bev.VectorQuantizedBottleneck', in_channels=64, out_channels=64
    )
)
val_evaluator = dict(out_file='work_dirs/mm_imdb_bottleneck_vq_vae_image_to_text/bottlenecks.json')
