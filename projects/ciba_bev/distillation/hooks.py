"""What a checkpoint says about how it came to be, so that the wrong one is refused."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ..registry import HOOKS

RECORD_KEY = 'distillation'


@HOOKS.register_module()
class DistillationRecordHook(Hook):
    """Writes into every checkpoint what the trained model's ``distillation_record()`` returns.

    A file of bottlenecks says which teacher, taps and sizes they belong to; a distilled student
    says that it is one. The record lies beside the weights, under ``'distillation'``.
    """

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the record.

        Args:
            runner: The runner that saves.
            checkpoint: What will be saved; changed in place.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if hasattr(model, 'distillation_record'):
            checkpoint[RECORD_KEY] = model.distillation_record()
