"""MM-IMDB, CIBA: the text network's first 16 channels follow a code by a vector-quantised bottleneck (VQ-VAE), image to text."""

_base_ = ['mm_imdb_mse_image_to_text.py']

model = dict(
    bottleneck=dict(
        config='configs/mm_imdb_bottleneck_vq_vae_image_to_text.py',
        checkpoint='work_dirs/mm_imdb_bottleneck_vq_vae_image_to_text/best.pth',
        size=16,
    )
)
