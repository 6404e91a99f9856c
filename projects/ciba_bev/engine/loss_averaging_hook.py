"""Logging the loss of the whole batch when it is spread over processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from mmengine.dist import get_comm_device, get_world_size
from mmengine.hooks import Hook

from ..registry import HOOKS


@HOOKS.register_module()
class LossAveragingHook(Hook):
    """Averages every logged loss over the processes before it reaches the log.

    mmengine logs the first process's share of the batch. With the average, a run on several
    processes logs what one process with the same total batch would.
    """

    # After FiniteLossHook (0), which looks at each process's own losses, and before RuntimeInfoHook
    # (10), which writes them to the message hub; wherever in the config the hooks are.
    priority = 5

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Replace the losses in ``outputs``, scalars by name, by their averages."""
        if get_world_size() == 1 or not outputs:
            return
        names = sorted(outputs)
        device = get_comm_device()
        values = torch.stack(
            [torch.as_tensor(outputs[name], dtype=torch.float32).to(device) for name in names]
        )
        torch.distributed.all_reduce(values)
        outputs.update(zip(names, values / get_world_size()))
