"""Ending a training whose loss is NaN or infinite, on all processes at once."""

from __future__ import annotations

from math import isfinite
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, get_comm_device, get_world_size
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper
from torch import Tensor

from ..errors import SharedError
from ..finiteness import describe, is_finite, postpone_checks, postponed_checks
from ..registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Looks at every step's loss, gradient norm and checked features once the step is over.

    All processes look together, so that all end together, and the message names the samples of
    those processes that met the fault. One number crosses from the device to the processor, at the
    place where mmengine reads the losses for its log anyway. ``CheckedRunner`` has this hook in
    every training; other runners can be given it in ``custom_hooks``.
    """

    # Before the losses are averaged over the processes and logged.
    priority = 'HIGHEST'

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Have the step's checks wait for its end."""
        postpone_checks()

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Look at the step.

        Raises:
            CibaError: Something was not finite, on any process.
        """
        checks = [*postponed_checks(), *_losses(outputs or {}), *_gradient_norms(runner)]
        device = checks[0][1].device if get_world_size() == 1 else get_comm_device()
        flags = torch.stack([finite.to(device) for _, finite in checks])
        faults = (~flags).sum()
        all_reduce(faults)
        if int(faults) == 0:
            return
        bad = [name for (name, _), finite in zip(checks, flags.tolist()) if not finite]
        found = all_gather_object(describe(bad[0], data_batch) if bad else None)
        place = f'epoch {runner.epoch + 1}, step {batch_idx + 1}'
        raise SharedError(f'{place}: ' + '\n'.join(message for message in found if message))


def _losses(outputs: dict[str, Any]) -> list[tuple[str, Tensor]]:
    """Name and finiteness of every loss, their sum last; the sum alone tells too little."""
    values = {name: torch.as_tensor(value) for name, value in outputs.items() if 'loss' in name}
    values['loss'] = values.pop('loss', torch.zeros(()))
    return [(name, is_finite(value)) for name, value in values.items()]


def _gradient_norms(runner: Any) -> list[tuple[str, Tensor]]:
    """Name and finiteness of the norms that clipping has logged in this step.

    A loss may be finite while its gradient is not. With a scaled loss that is normal: the step is
    skipped and the scale lowered.
    """
    wrapper = runner.optim_wrapper
    if isinstance(wrapper, AmpOptimWrapper) or not getattr(wrapper, 'clip_grad_kwargs', None):
        return []
    if not wrapper.should_update():
        return []
    prefix = f'train/{wrapper.grad_name}'
    return [
        ('the gradient', torch.tensor(isfinite(norm.current())))
        for name, norm in runner.message_hub.log_scalars.items()
        if name.startswith(prefix)
    ]
