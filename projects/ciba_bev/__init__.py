"""Cross-modal Information Bottleneck Approximation (CIBA) for MMDetection3D.

Importing the package makes its registries, under the scope ``ciba_bev``. Components are imported
when the first of them is built.
"""

from . import registry

__all__ = ['__version__', 'registry']

__version__ = '0.2.0'
