"""The two detectors that meet in bird's-eye view, and their nuScenes data."""

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
