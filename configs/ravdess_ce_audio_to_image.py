"""Cross-entropy: RAVDESS image network distilled from the audio network (Table 1(a))."""

_base_ = ['ravdess_mse_audio_to_image.py']

model = dict(loss=dict(_delete_=True, type='ciba_bev.CrossEntropyLoss'))
