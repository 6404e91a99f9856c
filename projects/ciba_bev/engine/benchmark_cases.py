"""What tools/benchmark.py measures of a distillation, built with random weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Callable, NamedTuple, Sequence

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from ..distillation.bottlenecks import Bottleneck
from ..distillation.frozen_model import FrozenModel, select_inputs
from ..errors import CibaError
from ..finiteness import postpone_checks, postponed_checks
from ..registry import MODELS

# In place of a checkpoint's: the time of a step does not depend on the weights.
_FINGERPRINT = 'random weights'


class BenchmarkCase(NamedTuple):
    """Something whose cost is measured.

    Attributes:
        name: What it is, for the table.
        part: ``'student'``, ``'teacher'``, or ``'distiller'`` for both together.
        size: Channels H of the code that a distiller distils; None for all of the teacher's.
    """

    name: str
    part: str
    size: int | None = None


STUDENT = BenchmarkCase('student, training step', 'student')
TEACHER = BenchmarkCase('teacher, feature', 'teacher')


def list_cases(cfg: Config, sizes: Sequence[int] | None = None) -> list[BenchmarkCase]:
    """List what can be measured with a config: student, teacher, then the distillers.

    Args:
        cfg: The distiller's config.
        sizes: Code sizes H; None for the config's own.

    Returns:
        The cases.

    Raises:
        CibaError: The config distils nothing, or has no bottleneck of these sizes.
    """
    model = cfg.get('model') or {}
    if 'teacher' not in model or 'student_tap' not in model:
        raise CibaError(
            f'{cfg.filename}: its model is {model.get("type")}, which distils nothing. Give the '
            'config of a ciba_bev.Distiller, as configs/ciba_bevformer_r50_h4.py.'
        )
    everything = BenchmarkCase('distiller, all channels', 'distiller')
    if not model.get('bottleneck'):
        if sizes:
            raise CibaError(
                f'{cfg.filename} distils all channels; only a config with a bottleneck has code '
                'sizes to measure. Leave --sizes out, or give such a config.'
            )
        return [STUDENT, TEACHER, everything]
    sizes = sizes or [model.bottleneck.size]
    bottlenecks = [_build_bottleneck(cfg, size) for size in sizes]
    cases = [BenchmarkCase(f'distiller, H = {size}', 'distiller', size) for size in sizes]
    # Features of different widths can be compared by a code only.
    if bottlenecks[0].in_channels == bottlenecks[0].out_channels:
        cases.insert(0, everything)
    return [STUDENT, TEACHER, *cases]


def build_step(cfg: Config, case: BenchmarkCase, device: torch.device) -> Callable[[dict], object]:
    """Build what one case does with a batch.

    Args:
        cfg: The distiller's config.
        case: Which one.
        device: Where it runs.

    Returns:
        A function of a collated batch.
    """
    torch.manual_seed(0)
    if case.part == 'teacher':
        teacher = FrozenModel('teacher', **cfg.model.teacher)
        teacher.fingerprint = _FINGERPRINT
        teacher.to(device)
        return lambda batch: teacher.feature(batch, device)
    inputs, size = None, case.size
    with MODELS.switch_scope_and_registry(None) as registry:
        if case.part == 'student':
            inputs = cfg.model.get('student_inputs')
            model = student = registry.build(cfg.model.student)
        else:
            bottleneck = None if size is None else dict(cfg.model.bottleneck, size=size)
            model = registry.build(dict(cfg.model, bottleneck=bottleneck))
            model.teacher.fingerprint = _FINGERPRINT
            model.teacher.encoder = None if size is None else _build_bottleneck(cfg, size)
            student = model.student
    _forget_pretrained_weights(student)
    student.init_weights()
    model.to(device).train()
    optim_wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))

    def step(batch: dict) -> dict:
        # As the hook of a training does: numbers are looked at when the step is over.
        postpone_checks()
        losses = model.train_step(select_inputs(batch, inputs, 'student'), optim_wrapper)
        postponed_checks()
        return losses

    return step


def _build_bottleneck(cfg: Config, size: int) -> Bottleneck:
    config_file = cfg.model.bottleneck.config
    if not Path(config_file).is_file():
        raise CibaError(f'{cfg.filename}: model.bottleneck.config: there is no {config_file}.')
    config = Config.fromfile(config_file).model.bottleneck
    return MODELS.build(dict(config, bottleneck_size=size)).eval().requires_grad_(False)


def _forget_pretrained_weights(model: nn.Module) -> None:
    """Let a model start from random weights instead of fetching some."""
    for module in model.modules():
        config = getattr(module, 'init_cfg', None)
        for one in config if isinstance(config, list) else [config]:
            if one and one.get('type') == 'Pretrained':
                module.init_cfg = None
