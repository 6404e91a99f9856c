"""The LiDAR teacher Object-DGCNN, the camera student BEVFormer, and nuScenes data."""

from ..detection import (
    bevformer,
    box_coding,
    data_preprocessor,
    foreground,
    loading,
    matching,
    nuscenes,
    object_dgcnn,
)

__all__ = [
    'bevformer',
    'box_coding',
    'data_preprocessor',
    'foreground',
    'loading',
    'matching',
    'nuscenes',
    'object_dgcnn',
]
