"""nuScenes, six cameras, in sequences of four frames. For a student with history."""

_base_ = ['./nuscenes_camera.py']

train_dataloader = dict(dataset=dict(type='ciba_bev.NuScenesSequenceDataset', queue_length=4))
val_dataloader = dict(dataset=dict(type='ciba_bev.NuScenesSequenceDataset'))
test_dataloader = val_dataloader
