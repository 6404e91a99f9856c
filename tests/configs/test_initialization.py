"""Every config's model is initialised to its last part."""

from __future__ import annotations

import pytest
from config_files import CONFIGS, read_config
from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from mmengine.registry import init_default_scope
from torch import nn

import ciba_bev  # noqa: F401
from ciba_bev.registry import MODELS

pytestmark = pytest.mark.usefixtures('unfilled_weights')

# Linear maps, drawn by hand; they read their teachers from a file.
SYNTHETIC_STUDENTS = {'synthetic_cross_entropy', 'synthetic_mse', 'synthetic_not_orthogonal_mse'}
NAMES = sorted({path.stem for path in CONFIGS.glob('*.py')} - SYNTHETIC_STUDENTS)

# What `left_out` found in each model; many trainings have the same one.
FOUND: dict[str, list[str]] = {}


def without_files(part):
    """A model config whose weights come from no file."""
    if isinstance(part, dict):
        kept = {key: without_files(value) for key, value in part.items()}
        if (kept.get('init_cfg') or {}).get('type') == 'Pretrained':
            kept['init_cfg'] = None
        return kept
    if isinstance(part, (list, tuple)):
        return type(part)(without_files(value) for value in part)
    return part


def trained_model(name):
    """What a config trains: its model, or the student or a bottleneck within."""
    model = read_config(name).model
    if model.type == 'ciba_bev.BottleneckTraining':
        # Its frozen models are those of the configs that it names.
        model = ConfigDict(model.bottleneck, bottleneck_size=model.bottleneck_sizes[0])
    elif model.type == 'ciba_bev.Distiller':
        model = model.get('student', model)
    return without_files(model)


def has_rules(module):
    """Whether a module does more at its initialisation than pass it on to its parts."""
    if not isinstance(module, BaseModule):
        return False
    return bool(module.init_cfg) or type(module).init_weights is not BaseModule.init_weights


def left_out(model):
    """Names of modules with rules of their own for their start, which ``init_weights`` missed."""
    reached = set()

    def watch(module):
        original = module.init_weights

        def init_weights(*args, **kwargs):
            reached.add(module)
            return original(*args, **kwargs)

        module.init_weights = init_weights

    wanted = {name: module for name, module in model.named_modules() if has_rules(module)}
    for module in wanted.values():
        watch(module)
    model.init_weights()
    return [name for name, module in wanted.items() if module not in reached]


@pytest.mark.parametrize('name', NAMES)
def test_initialization_reaches_every_part(name, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    config = trained_model(name)
    key = repr(config)
    if key not in FOUND:
        detects = 'img_backbone' in config or 'pts_backbone' in config
        init_default_scope('mmdet3d' if detects else 'mmengine')
        FOUND[key] = left_out(MODELS.build(config))
    assert FOUND[key] == []


def test_a_plain_module_in_between_is_found():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = BaseModule(init_cfg=dict(type='Xavier', layer='Linear'))

    outer = BaseModule()
    outer.plain = Plain()
    outer.direct = BaseModule(init_cfg=dict(type='Xavier', layer='Linear'))
    assert left_out(outer) == ['plain.part']
