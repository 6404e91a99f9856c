"""Store in a checkpoint how it was trained, so that the wrong one is rejected."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ..registry import HOOKS

# Where a checkpoint holds the metadata, beside 'state_dict'.
CHECKPOINT_KEY = 'distillation'


@HOOKS.register_module()
class DistillationRecordHook(Hook):
    """Write the trained model's ``checkpoint_metadata()`` into every checkpoint.

    The metadata of bottlenecks name their teacher, taps and sizes; those of a distilled student say
    that it is one. They are stored beside the weights, under :data:`CHECKPOINT_KEY`.
    """

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the metadata.

        Args:
            runner: The runner that saves.
            checkpoint: What will be saved; changed in place.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if hasattr(model, 'checkpoint_metadata'):
            checkpoint[CHECKPOINT_KEY] = model.checkpoint_metadata()
