"""Parameters and time of a training step of bottlenecks and students (Appendix E.4)."""

from __future__ import annotations

from functools import partial
from typing import Callable

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from ..registry import MODELS
from .plan import Plan

# A student's config, the config of its bottlenecks, and the bottleneck size H.
PAIRS = (
    ('ravdess_image', 'ravdess_bottleneck_audio_to_image', 8),
    ('ravdess_audio', 'ravdess_bottleneck_image_to_audio', 2),
)
_BATCH = 8


def measure_complexity(plan: Plan) -> tuple[list[str], list[list[str]]]:
    """Count parameters, and time a training step of a bottleneck and of its student.

    Args:
        plan: Reads the configs.

    Returns:
        Header and rows. Times are medians of forward and backward passes, in milliseconds per
        sample, on one CPU thread.
    """
    header = ['Student', 'Bottleneck', 'Student parameters', 'Bottleneck parameters', 'ratio']
    header += ['Student step, ms', 'Bottleneck step, ms']
    body = []
    for student_config, bottleneck_config, size in PAIRS:
        student_cfg = plan.read(student_config)
        bottleneck_cfg = plan.read(bottleneck_config).model.bottleneck
        student = MODELS.build(student_cfg.model)
        bottleneck = MODELS.build(dict(bottleneck_cfg, bottleneck_size=size))
        shapes = {
            'image': (3, *student_cfg.train_dataloader.dataset.image_size),
            'audio': (1, *student_cfg.train_dataloader.dataset.get('audio_size', (128, 128))),
        }
        inputs = {name: torch.randn(_BATCH, *shapes[name]) for name in student_cfg.model.inputs}
        labels = torch.zeros(_BATCH, dtype=torch.long)
        student_ms = _time_step(partial(student, inputs, labels, mode='loss'))
        feature = torch.randn(_BATCH, bottleneck_cfg.in_channels)
        target = torch.randn(_BATCH, bottleneck_cfg.out_channels)
        bottleneck_ms = _time_step(partial(bottleneck, feature, target))
        counts = [sum(p.numel() for p in model.parameters()) for model in (student, bottleneck)]
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
    return header, body


def _time_step(losses: Callable[[], dict[str, Tensor]]) -> float:
    """Return the median time of a forward and a backward pass, in milliseconds per sample."""
    timer = Timer('sum(losses().values()).backward()', globals={'losses': losses}, num_threads=1)
    return 1000 * timer.blocked_autorange(min_run_time=3).median / _BATCH
