"""A registry of its own, as a repository beside mmdet3d has one."""

from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='lift_splat_detector')
