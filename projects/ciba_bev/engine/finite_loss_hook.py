"""Stop a training that is no longer finite, on all processes at once."""

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
    """Check losses, checked features and new weights for NaN and infinity after every step.

    All processes check together, so that all of them stop, and the message names the samples of
    those with invalid values. One number is copied from the device to the CPU, where mmengine reads
    the losses for its log anyway. ``CheckedRunner`` always has this hook; other runners can have it
    in ``custom_hooks``.
    """

    # Before the losses are averaged over the processes and logged.
    priority = 'HIGHEST'

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Postpone the checks of the step to its end.

        Args:
            runner: The runner.
            batch_idx: Index of the batch.
            data_batch: The batch.
        """
        postpone_checks()

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Check the step.

        Args:
            runner: The runner.
            batch_idx: Index of the batch.
            data_batch: The batch.
            outputs: Name of each loss to its value.

        Raises:
            SharedError: A value was not finite, on any process.
        """
        new_weights = _weights(runner.model)
        device = get_comm_device() if get_world_size() > 1 else new_weights[1].device
        checks = [*postponed_checks(), *_losses(outputs or {}, device), new_weights]
        flags = torch.stack([finite.to(device) for _, finite in checks])
        faults = (~flags).sum()
        all_reduce(faults)
        if int(faults) == 0:
            return
        invalid = [name for (name, _), finite in zip(checks, flags.tolist()) if not finite]
        found = all_gather_object((invalid, sample_names(data_batch)))
        # The weights of all processes are invalid by now.
        found = [one for one in found if one[0] and one[0][0] != _MODEL] or found
        samples = [name for _, names in found for name in names]
        step = f'epoch {runner.epoch + 1}, step {batch_idx + 1}'
        raise SharedError(f'{step}: {describe(found[0][0][0], samples)}')


def _losses(outputs: dict[str, Any], device: torch.device) -> list[tuple[str, Tensor]]:
    """Return name and finiteness of every loss, and of their sum last."""
    values = {name: torch.as_tensor(value) for name, value in outputs.items() if 'loss' in name}
    values['loss'] = values.pop('loss', torch.zeros(()))
    sums = [value.detach().sum(dtype=torch.float64).to(device) for value in values.values()]
    # Looked at together: one by one, this would be four kernels for each of a detector's losses.
    return list(zip(values, torch.stack(sums).isfinite()))


def _weights(model: nn.Module) -> tuple[str, Tensor]:
    """Return a name and the finiteness of the new weights.

    The gradient of a finite loss can be NaN. With a scaled loss infinite gradients are normal; such
    a step does not change the weights.
    """
    weights = [value.detach() for value in model.parameters() if value.requires_grad]
    # One operation for all of them, as in gradient clipping.
    norms = torch.stack([norm.float() for norm in torch._foreach_norm(weights)])
    return _MODEL, is_finite(norms)
