"""The operators of mmcv in Python: ``mmcv._ext`` for an mmcv that has none compiled.

Importing this package makes ``import mmcv._ext`` work where it would fail, and does nothing else:
PyTorch and Numba are loaded by the first operator that is called. An mmcv with compiled operators
keeps them.
"""

from __future__ import annotations

import os
import sys

__version__ = '0.1.0'
__all__ = ['OPERATORS', 'activate', 'is_used']

# Which module of this package computes what.
_MODULES = {
    'box_overlap': ('box_iou_rotated', 'iou3d_boxes_overlap_bev_forward'),
    'deformable_attention': ('ms_deform_attn_forward', 'ms_deform_attn_backward'),
    'deformable_convolution': (
        'deform_conv_forward',
        'deform_conv_backward_input',
        'deform_conv_backward_parameters',
        'modulated_deform_conv_forward',
        'modulated_deform_conv_backward',
    ),
    'focal_loss': (
        'sigmoid_focal_loss_forward',
        'sigmoid_focal_loss_backward',
        'softmax_focal_loss_forward',
        'softmax_focal_loss_backward',
    ),
    'points_in_boxes': (
        'points_in_boxes_all_forward',
        'points_in_boxes_cpu_forward',
        'points_in_boxes_part_forward',
    ),
    'scatter': ('dynamic_point_to_voxel_forward', 'dynamic_point_to_voxel_backward'),
    'suppression': ('iou3d_nms3d_forward', 'iou3d_nms3d_normal_forward', 'nms', 'nms_rotated'),
    'voxelization': ('dynamic_voxelize_forward', 'hard_voxelize_forward'),
}
#: Name of every operator there is, with the module that holds it.
OPERATORS = {name: module for module, names in _MODULES.items() for name in names}


class _ExtensionFinder:
    """Finds ``mmcv._ext`` when nobody else does: it is asked last."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> object:
        if name != 'mmcv._ext':
            return None
        from importlib.util import spec_from_file_location

        return spec_from_file_location(
            name, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'extension.py')
        )


def activate() -> None:
    """Let Python find ``mmcv._ext`` here if mmcv has none; importing the package does this."""
    if _ExtensionFinder not in sys.meta_path:
        sys.meta_path.append(_ExtensionFinder)


def is_used() -> bool:
    """Return whether ``mmcv._ext`` is this package's, without importing mmcv's operators.

    Raises:
        ModuleNotFoundError: There is no mmcv.
    """
    from importlib.util import find_spec

    spec = find_spec('mmcv._ext')
    return spec is not None and os.path.basename(spec.origin or '') == 'extension.py'


activate()
