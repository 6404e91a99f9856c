"""Reading checkpoints safely where somebody else's tool runs the config."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from ..checkpoints.files import read_checkpoints_safely
from ..registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Has mmengine read checkpoints with ``weights_only``, its own log histories allowed.

    Without it, mmengine's loading refuses its own checkpoints from torch 2.6 on, and runs whatever
    is in them before. This project's tools do the same by themselves; a config names the hook for
    those of mmdet3d or of another repository.
    """

    def before_run(self, runner: Any) -> None:
        """Before the runner loads or resumes anything."""
        read_checkpoints_safely()
