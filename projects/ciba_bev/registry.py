"""The registries of the project, in the scope ``ciba_bev``.

They are children of mmengine's root registries, as mmdet3d's are, so that any OpenMMLab config can
use a component as ``type='ciba_bev.BEVFormer'``. It does not conflict with a ``BEVFormer`` that is
registered in another scope. The packages that register components are imported on the first use.
"""

import importlib.util

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import TASK_UTILS as MMENGINE_TASK_UTILS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

SCOPE = 'ciba_bev'
# For `_base_ = ['ciba_bev::configs/bevformer_r50.py']` and mmengine.hub. The value is a module of
# the package: mmengine would look for a distribution in site-packages, even if it is editable.
MODULE2PACKAGE[SCOPE] = f'{SCOPE}.registry'

if SCOPE in MMENGINE_MODELS.children:
    # An ImportError, because mmengine imports the package of a scope itself and then uses the copy
    # that is already imported.
    raise ImportError(
        f'{__name__} was not imported, because a copy of the package under another name has its '
        f"components registered already. Import one: either the installed 'ciba_bev' or the one "
        f"in a checkout, 'projects.ciba_bev'; custom_imports of every config must name the same."
    )

_PACKAGE = __name__.rpartition('.')[0]
_LOCATIONS = [f'{_PACKAGE}.{name}' for name in ('distillation', 'analysis', 'engine')]
if importlib.util.find_spec('mmdet3d') is not None:
    # Not needed to distil other models.
    _LOCATIONS += [f'{_PACKAGE}.{name}' for name in ('detection', 'classification')]


def _make_registry(name: str, parent: Registry) -> Registry:
    return Registry(name, parent=parent, scope=SCOPE, locations=_LOCATIONS)


MODELS = _make_registry('model', MMENGINE_MODELS)
DATASETS = _make_registry('dataset', MMENGINE_DATASETS)
DATA_SAMPLERS = _make_registry('data sampler', MMENGINE_DATA_SAMPLERS)
TRANSFORMS = _make_registry('transform', MMENGINE_TRANSFORMS)
TASK_UTILS = _make_registry('task util', MMENGINE_TASK_UTILS)
METRICS = _make_registry('metric', MMENGINE_METRICS)
FUNCTIONS = _make_registry('function', MMENGINE_FUNCTIONS)
HOOKS = _make_registry('hook', MMENGINE_HOOKS)
OPTIM_WRAPPERS = _make_registry('optim_wrapper', MMENGINE_OPTIM_WRAPPERS)
OPTIM_WRAPPER_CONSTRUCTORS = _make_registry(
    'optimizer wrapper constructor', MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
)
