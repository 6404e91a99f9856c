"""Ending a training that is no longer finite, on all processes at once."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, get_comm_device, get_world_size
from mmengine.hooks import Hook
from torch import Tensor, nn

from ..errors import SharedError
from ..finiteness import describe, is_finite, postpone_checks, postponed_checks, sample_names
from ..registry import HOOKS

_MODEL = 'the model after this step'


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Looks at every step's losses, its checked features and the new weights once it is over.

    All processes look together, so that all end together, and the message names the samples of
    those that met the fault. One number goes from the device to the processor, at the place where
    mmengine reads the losses for its log anyway. ``CheckedRunner`` has this hook in every training;
    other runners can be given it in ``custom_hooks``.
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
        checks = [*postponed_checks(), *_losses(outputs or {}), *_weights(runner.model)]
        device = get_comm_device() if get_world_size() > 1 else checks[-1][1].device
        flags = torch.stack([finite.to(device) for _, finite in checks])
        faults = (~flags).sum()
        all_reduce(faults)
        if int(faults) == 0:
            return
        bad = [name for (name, _), finite in zip(checks, flags.tolist()) if not finite]
        found = all_gather_object((bad, sample_names(data_batch)))
        # A fault of one process has reached every process's weights by now.
        found = [one for one in found if one[0] and one[0][0] != _MODEL] or found
        samples = [name for _, names in found for name in names]
        place = f'epoch {runner.epoch + 1}, step {batch_idx + 1}'
        raise SharedError(f'{place}: {describe(found[0][0][0], samples)}')


def _losses(outputs: dict[str, Any]) -> list[tuple[str, Tensor]]:
    """Name and finiteness of every loss, their sum last; the sum alone tells too little."""
    values = {name: torch.as_tensor(value) for name, value in outputs.items() if 'loss' in name}
    values['loss'] = values.pop('loss', torch.zeros(()))
    return [(name, is_finite(value)) for name, value in values.items()]


def _weights(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Finiteness of what the step has made of the weights: a gradient of a finite loss can be NaN.

    With a scaled loss infinite gradients are normal; such a step is left out and changes nothing.
    """
    weights = [value.detach() for value in model.parameters() if value.requires_grad]
    # One operation for all of them, as gradient clipping has it.
    norms = torch.stack([norm.float() for norm in torch._foreach_norm(weights)])
    return [(_MODEL, is_finite(norms))]
