"""nuScenes, six cameras, frame by frame. For a single-frame student."""

# Its data loaders as they are.
_base_ = ['./nuscenes.py']
