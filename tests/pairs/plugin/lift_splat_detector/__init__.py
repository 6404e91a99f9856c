"""Somebody else's detectors: a camera detector with a BEV map, and one that adds LiDAR to it.

They know mmdet3d and nothing of distillation.
"""

from .detectors import CameraLidarDetector, LiftSplatDetector
from .lift_splat import BEVGrid, LiftSplat

__all__ = ['BEVGrid', 'CameraLidarDetector', 'LiftSplat', 'LiftSplatDetector']
