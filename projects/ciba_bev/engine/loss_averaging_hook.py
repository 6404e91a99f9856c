"""Log the loss of the whole batch in distributed training."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from mmengine.dist import get_comm_device, get_world_size
from mmengine.hooks import Hook

from ..registry import HOOKS


@HOOKS.register_module()
class LossAveragingHook(Hook):
    """Average every logged loss over the processes.

    mmengine logs the loss of the first process's part of the batch. The average is the loss that a
    single process with the same total batch would log.
    """

    # After FiniteLossHook (0), which checks the losses of each process, and before RuntimeInfoHook
    # (10), which writes them to the message hub.
    priority = 5

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Replace losses by their averages over the processes.

        Args:
            runner: The runner.
            batch_idx: Index of the batch.
            data_batch: The batch.
            outputs: Name of each loss to a scalar; changed in place.
        """
        if get_world_size() == 1 or not outputs:
            return
        names = sorted(outputs)
        device = get_comm_device()
        values = torch.stack(
            [torch.as_tensor(outputs[name], dtype=torch.float32).to(device) for name in names]
        )
        torch.distributed.all_reduce(values)
        outputs.update(zip(names, values / get_world_size()))
