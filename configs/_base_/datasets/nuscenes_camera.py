"""nuScenes, six cameras, frame by frame. For a student without history."""

# Its data loaders as they are.
_base_ = ['./nuscenes.py']
