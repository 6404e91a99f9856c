"""CLIP: RAVDESS image network distilled from the audio network (Table 1(a))."""

_base_ = ['ravdess_mse_audio_to_image.py']

model = dict(loss=dict(_delete_=True, type='ciba_bev.CLIPLoss'))
# A last batch of a single sample has nothing to be told from.
train_dataloader = dict(drop_last=True)
