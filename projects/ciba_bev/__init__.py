"""Cross-modal Information Bottleneck Approximation (CIBA) for MMDetection3D.

Importing the package makes its registries, under the scope ``ciba_bev``. Components are imported
when the first of them is built.
"""

from __future__ import annotations

import sys

from . import registry

__all__ = ['__version__', 'registry']

__version__ = '0.2.0'


class _NoOperators:
    """Asked last for ``mmcv._ext``: says what its absence means."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == 'mmcv._ext':
            raise ModuleNotFoundError(
                'mmcv has no compiled operators, and mmcv_operators, which has them in Python, is '
                'not installed: pip install --no-deps ./projects/mmcv_operators (in a checkout of '
                'ciba_bev), or install an mmcv with compiled operators.',
                name=name,
            )


try:
    # Gives an mmcv without compiled operators its operators, also where it is not installed and
    # lies beside this package.
    import mmcv_operators  # noqa: F401
except ImportError:
    sys.meta_path.append(_NoOperators)
