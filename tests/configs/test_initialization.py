"""Every config's model is initialised to its last part."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModule
from mmengine.registry import init_default_scope
from torch import nn

import ciba_bev  # noqa: F401
from ciba_bev.registry import MODELS

PROJECT = Path(__file__).resolve().parents[2]


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


def models_of(path):
    """The plain models that a config trains: its own, or the student or bottlenecks within."""
    model = Config.fromfile(path, import_custom_modules=False).model
    return model.get('student', model) if model.type == 'ciba_bev.Distiller' else model


def distinct_configs():
    """One config of each different model; many trainings have the same one."""
    chosen = {}
    for path in sorted((PROJECT / 'configs').glob('*.py')):
        model = models_of(path)
        if model.type == 'ciba_bev.SyntheticDistillation':
            # Linear maps, drawn by hand; it reads its teachers from a file.
            continue
        if model.type == 'ciba_bev.BottleneckTraining':
            # Its frozen models are those of the configs that it names.
            model = ConfigDict(model.bottleneck, bottleneck_size=model.bottleneck_sizes[0])
        chosen.setdefault(repr(without_files(model)), (path.stem, model))
    return list(chosen.values())


CONFIGS = distinct_configs()


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


@pytest.mark.parametrize(('name', 'config'), CONFIGS, ids=[name for name, _ in CONFIGS])
def test_initialization_reaches_every_part(name, config, monkeypatch):
    monkeypatch.chdir(PROJECT)
    detects = 'img_backbone' in config or 'pts_backbone' in config
    init_default_scope('mmdet3d' if detects else 'mmengine')
    torch.manual_seed(0)
    model = MODELS.build(without_files(config))
    assert left_out(model) == []


def test_a_plain_module_in_between_is_found():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = BaseModule(init_cfg=dict(type='Xavier', layer='Linear'))

    outer = BaseModule()
    outer.plain = Plain()
    outer.direct = BaseModule(init_cfg=dict(type='Xavier', layer='Linear'))
    assert left_out(outer) == ['plain.part']
