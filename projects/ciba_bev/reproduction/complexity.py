"""Parameters and step cost of bottlenecks and students (Appendix E.4)."""

from __future__ import annotations

import time
from typing import Callable, Sequence

import torch
from torch import Tensor, nn

from ..registry import MODELS
from .plan import Plan

# Pairs of a student's config and the config of a bottleneck that serves it.
PAIRS = (
    ('ravdess_image', 'ravdess_bottleneck_audio_to_image', 8),
    ('ravdess_audio', 'ravdess_bottleneck_image_to_audio', 2),
)
_BATCH = 8
_REPEATS = 5


def measure_complexity(plan: Plan) -> tuple[list[str], list[list[str]]]:
    """Count parameters, and time one training step of a bottleneck and of its student.

    Args:
        plan: Knows the configs.

    Returns:
        Header and rows, as text. Times are medians a sample, forward and backward, on one thread
        of this machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        body = []
        for student_config, bottleneck_config, size in PAIRS:
            student = MODELS.build(plan.read(student_config).model)
            bottleneck_model = plan.read(bottleneck_config).model.bottleneck
            bottleneck = MODELS.build(dict(bottleneck_model, bottleneck_size=size))
            inputs = _make_inputs(plan, student_config)
            feature = torch.randn(_BATCH, bottleneck_model.in_channels)
            target = torch.randn(_BATCH, bottleneck_model.out_channels)
            labels = torch.zeros(_BATCH, dtype=torch.long)
            student_ms = _time(
                student,
                lambda model, batch=inputs, y=labels: model(batch, y, mode='loss').values(),
            )
            bottleneck_ms = _time(
                bottleneck, lambda model, z=feature, y=target: model(z, y).values()
            )
            counts = [_count(model) for model in (student, bottleneck)]
            body.append(
                [
                    student_config,
                    f'{bottleneck_config} (H = {size})',
                    *(f'{count:,}' for count in counts),
                    f'{counts[0] / counts[1]:.1f}',
                    f'{student_ms:.2f}',
                    f'{bottleneck_ms:.2f}',
                ]
            )
    finally:
        torch.set_num_threads(threads)
    header = ['Student', 'Bottleneck', 'Student parameters', 'Bottleneck parameters', 'ratio']
    return [*header, 'Student step, ms', 'Bottleneck step, ms'], body


def _make_inputs(plan: Plan, config: str) -> dict[str, Tensor]:
    """A batch of noise in the shapes that the student's data set gives."""
    cfg = plan.read(config)
    shapes = {
        'image': (3, *cfg.train_dataloader.dataset.image_size),
        'audio': (1, *cfg.train_dataloader.dataset.get('audio_size', (128, 128))),
    }
    return {name: torch.randn(_BATCH, *shapes[name]) for name in cfg.model.inputs}


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _time(model: nn.Module, losses: Callable[[nn.Module], Sequence[Tensor]]) -> float:
    """Milliseconds a sample of a forward and a backward pass: the median of some."""
    times = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        sum(losses(model)).backward()
        times.append(time.perf_counter() - began)
        model.zero_grad()
    return 1000 * sorted(times)[_REPEATS // 2] / _BATCH
