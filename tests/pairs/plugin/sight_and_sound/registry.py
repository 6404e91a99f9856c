"""Registries of the scope ``sight_and_sound``."""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='sight_and_sound')
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope='sight_and_sound')
METRICS = Registry('metric', parent=MMENGINE_METRICS, scope='sight_and_sound')
