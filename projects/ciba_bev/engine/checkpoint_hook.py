"""Remove old checkpoints only after the new one is written."""

from __future__ import annotations

import os
from typing import Any

from mmengine.hooks import CheckpointHook


class KeepingCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook, which removes old checkpoints after the new one is written.

    mmengine removes them before, so that a training that is killed in between, or whose new weights
    are not finite, loses its only good checkpoint. After a work folder was copied, the best
    checkpoint so far is the one in the copy. ``CheckedRunner`` uses this hook instead of
    ``CheckpointHook``.
    """

    def before_train(self, runner: Any) -> None:
        """Find the best checkpoints so far in the work folder.

        Args:
            runner: The runner.
        """
        super().before_train(runner)
        information = runner.message_hub.runtime_info
        for name in [name for name in information if name.startswith('best_ckpt')]:
            self._use_own_file(runner, name, information[name])
        self.file_backend = _DelayedRemoval(self.file_backend, self.out_dir)

    def _use_own_file(self, runner: Any, name: str, recorded: str) -> None:
        own = self.file_backend.join_path(self.out_dir, os.path.basename(str(recorded)))
        if own == recorded or not self.file_backend.isfile(own):
            return
        runner.message_hub.update_info(name, own)
        if not self.save_best:
            return
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = own
        else:
            self.best_ckpt_path_dict[name[len('best_ckpt_') :]] = own

    def _save_checkpoint(self, runner: Any) -> None:
        super()._save_checkpoint(runner)
        self.file_backend.remove_now(keep=self._current())

    def _save_best_checkpoint(self, runner: Any, metrics: dict[str, Any]) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self.file_backend.remove_now(keep=self._current())

    def _current(self) -> set[str]:
        best = [getattr(self, 'best_ckpt_path', None)]
        best += getattr(self, 'best_ckpt_path_dict', {}).values()
        return {str(path) for path in (*best, getattr(self, 'last_ckpt', None)) if path}


class _DelayedRemoval:
    """A file backend that delays removals, and removes nothing outside one folder."""

    def __init__(self, backend: Any, folder: str) -> None:
        self._backend = backend
        self._folder = str(folder)
        self._removals: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        """Remove a file later."""
        self._removals.append(str(path))

    def remove_now(self, keep: set[str]) -> None:
        """Remove the scheduled files, except for current checkpoints."""
        removals, self._removals = self._removals, []
        for path in removals:
            if path not in keep and os.path.dirname(path) == self._folder:
                self._backend.remove(path)
