"""The method (paper, Sec. 4): bottlenecks, Algorithm 1 and Algorithm 2, for any two models.

Nothing here depends on bird's-eye view or nuScenes: a BEV feature is (B, C, H, W), the feature of a
classifier has no grid, (B, C).
"""

from .bottleneck_training import (
    BottleneckOptimWrapper,
    BottleneckOptimWrapperConstructor,
    BottleneckTraining,
)
from .bottlenecks import SelfAttentionBottleneck, VariationalBottleneck, VectorQuantizedBottleneck
from .cell_means import CellMeansHook
from .distiller import Distiller
from .hooks import DistillationRecordHook
from .losses import CLIPLoss, CrossEntropyLoss, MarginLoss, MSELoss
from .taps import FeatureTap

__all__ = [
    'BottleneckOptimWrapper',
    'BottleneckOptimWrapperConstructor',
    'BottleneckTraining',
    'CLIPLoss',
    'CellMeansHook',
    'CrossEntropyLoss',
    'DistillationRecordHook',
    'Distiller',
    'FeatureTap',
    'MSELoss',
    'MarginLoss',
    'SelfAttentionBottleneck',
    'VariationalBottleneck',
    'VectorQuantizedBottleneck',
]
