"""The project's registries, all under the scope ``ciba_bev``.

They are siblings of mmdet3d's below mmengine's root, so any OpenMMLab config can name a
component as ``type='ciba_bev.BEVFormer'``, and a repository that already registers a
``BEVFormer`` of its own keeps it: two scopes never clash. The packages that register components
are imported when the first component is asked for.
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
# Lets a config inherit as `ciba_bev::configs/bevformer_r50.py`, and mmengine.hub find it. What
# mmengine gets is a module of the package, not a distribution, which it would look for in
# site-packages even where the install is editable.
MODULE2PACKAGE[SCOPE] = f'{SCOPE}.registry'

if SCOPE in MMENGINE_MODELS.children:
    # An ImportError, because mmengine, which imports the package of a scope by itself, then uses
    # the copy that is already imported.
    raise ImportError(
        f'{__name__} was not imported, because a copy of the package under another name has its '
        f"components registered already. Import one: either the installed 'ciba_bev' or the one in "
        f"a checkout, 'projects.ciba_bev'; custom_imports of every config must name the same."
    )

_PACKAGE = __name__.rpartition('.')[0]
_LOCATIONS = [f'{_PACKAGE}.{name}' for name in ('distillation', 'analysis', 'engine')]
if importlib.util.find_spec('mmdet3d') is not None:
    # Distilling two models of your own needs neither these packages nor mmdet3d.
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
