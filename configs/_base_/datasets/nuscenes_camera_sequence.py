"""nuScenes, six cameras, in sequences of four frames. For a temporal student."""

_base_ = ['./nuscenes.py']

train_dataloader = dict(dataset={{_base_.train_sequences}})
val_dataloader = dict(dataset={{_base_.test_sequences}})
test_dataloader = val_dataloader
