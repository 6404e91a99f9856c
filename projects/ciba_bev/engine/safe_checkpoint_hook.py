"""Read checkpoints safely when another repository's tool runs the config."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from ..checkpoints.files import read_checkpoints_safely
from ..registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Load checkpoints with ``weights_only``, allowing mmengine's log histories.

    Without this hook, mmengine cannot load its own checkpoints with torch 2.6 and later, and runs
    code stored in them with older versions. The tools of this project do not need it; it is for
    configs that are run by the tools of mmdet3d or of another repository.
    """

    def before_run(self, runner: Any) -> None:
        """Register the loaders, before the runner loads a checkpoint.

        Args:
            runner: The runner.
        """
        read_checkpoints_safely()
