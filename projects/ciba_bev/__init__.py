"""Cross-modal Information Bottleneck Approximation (CIBA) for MMDetection3D.

Importing the package registers its components under the scope ``ciba_bev`` and does nothing else.
"""

from . import analysis, classification, detection, distillation, runner

__all__ = ['analysis', 'classification', 'detection', 'distillation', 'runner']
