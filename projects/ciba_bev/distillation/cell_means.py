"""Remove from features what is the same in every frame: the mean of each cell."""

from __future__ import annotations

from typing import Any, Iterable

import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from ..errors import ConfigError
from ..registry import HOOKS
from .bottlenecks import Bottleneck


class CellMeans(nn.Module):
    r"""Mean of the teacher's and of the student's feature in each cell, over the training set.

    Attributes:
        teacher: (C', \*grid) float32, on the cells that the teacher covers; empty until
            :meth:`measure`.
        student: (C, \*grid) float32, on the same cells.
    """

    teacher: Tensor
    student: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('teacher', torch.empty(0))
        self.register_buffer('student', torch.empty(0))

    @property
    def is_measured(self) -> bool:
        """Whether the means are there."""
        return self.teacher.numel() > 0

    def measure(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        r"""Compute the means, in float64 and batch by batch, over all processes.

        Args:
            pairs: Features of the teacher (B, C', \*grid) and of the student (B, C, \*grid); each
                sample once, in one of the processes.
        """
        sums: list[Tensor] = []
        count = 0
        for pair in pairs:
            found = [feature.double().sum(0) for feature in pair]
            sums = [old + new for old, new in zip(sums, found)] if sums else found
            count += len(pair[0])
        total = torch.tensor(float(count), dtype=torch.float64, device=sums[0].device)
        for value in (*sums, total):
            all_reduce(value)
        self.teacher, self.student = ((value / total).float() for value in sums)

    def forward(self, teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
        r"""Subtract the means.

        Args:
            teacher: (B, C', \*grid).
            student: (B, C, \*grid).

        Returns:
            The two features without their means.

        Raises:
            ConfigError: The means were not measured.
        """
        if not self.is_measured:
            raise ConfigError(
                'subtract_cell_means=True, but the means were not measured. Add '
                "cell_means=dict(type='ciba_bev.CellMeansHook') to default_hooks, or give a "
                'checkpoint of an Algorithm 1 run that has them.'
            )
        return teacher - self.teacher, student - self.student

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        # Their size is known only to who has seen the features.
        for name in ('teacher', 'student'):
            value = state_dict.get(f'{prefix}{name}')
            if value is not None:
                setattr(self, name, torch.empty_like(value, device=self.teacher.device))
        super()._load_from_state_dict(state_dict, prefix, *arguments)


class CenteredBottleneck(nn.Module):
    r"""Encode features from which the mean of each cell is subtracted.

    Args:
        bottleneck: What was trained on such features.
        mean: (C', \*grid) float32.
    """

    mean: Tensor

    def __init__(self, bottleneck: Bottleneck, mean: Tensor) -> None:
        super().__init__()
        self.bottleneck = bottleneck
        self.register_buffer('mean', mean)

    def encode(self, teacher_feature: Tensor, *, sample: bool = False) -> Tensor:
        r"""Return the code (B, H, \*grid) of a feature (B, C', \*grid); see :class:`Bottleneck`.

        Raises:
            ConfigError: The feature has another grid than those the bottleneck was trained on.
        """
        if teacher_feature.shape[1:] != self.mean.shape:
            raise ConfigError(
                f'the bottleneck subtracts means of shape {tuple(self.mean.shape)}, but the '
                f"teacher's feature on the student's grid is {tuple(teacher_feature.shape[1:])}. "
                'Distil on the grid that the bottleneck was trained on.'
            )
        return self.bottleneck.encode(teacher_feature - self.mean, sample=sample)


@HOOKS.register_module()
class CellMeansHook(Hook):
    """Measure the means of a :class:`BottleneckTraining` that subtracts them, before it trains.

    The frozen models see the training set once, each sample in one process. With a feature cache
    this fills it. A resumed training has the means in its checkpoint.
    """

    def before_train(self, runner: Runner) -> None:
        """Measure the means, unless they are there.

        Args:
            runner: The runner that trains.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        means = getattr(model, 'cell_means', None)
        if means is None or means.is_measured:
            return
        loader = runner.train_dataloader
        own = Subset(loader.dataset, range(get_rank(), len(loader.dataset), get_world_size()))
        batches = DataLoader(
            own,
            batch_size=loader.batch_size,
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            worker_init_fn=loader.worker_init_fn,
        )
        runner.logger.info('Measuring the mean of each cell over the training set.')
        with torch.no_grad():
            means.measure(
                model.read_features(model.data_preprocessor(batch, False)) for batch in batches
            )
