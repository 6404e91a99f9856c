"""nuScenes, ten LiDAR sweeps and sequences of four camera frames. For distilling with history."""

_base_ = ['./nuscenes_lidar_camera.py']

train_dataloader = dict(dataset=dict(type='ciba_bev.NuScenesSequenceDataset', queue_length=4))
# The student carries its BEV map from frame to frame, so frames must come in scene order.
val_dataloader = dict(
    sampler=dict(_delete_=True, type='ciba_bev.SceneSequenceSampler'),
    dataset=dict(type='ciba_bev.NuScenesSequenceDataset'),
)
test_dataloader = val_dataloader
