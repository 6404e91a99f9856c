"""RAVDESS: the whole image feature drawn to the audio feature by cross-entropy (Table 1(a))."""

_base_ = ['ravdess_mse_audio_to_image.py']

model = dict(loss=dict(_delete_=True, type='ciba_bev.CrossEntropyLoss'))
