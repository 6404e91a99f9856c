"""Cross-modal Information Bottleneck Approximation (CIBA) for MMDetection3D.

Importing the package registers its components under the scope ``ciba_bev`` and does nothing else.
"""

from . import analysis, detection, distillation

__all__ = ['analysis', 'detection', 'distillation']
