"""mmengine's Runner, with checks of checkpoints and losses and atomic writes."""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any, Callable, Sequence

import torch
from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, CheckpointLoader, Runner
from torch import nn
from torch.utils.data import DataLoader

from ..checkpoints.matching import get_state_dict, load_weights, require_complete, require_half
from ..errors import CibaError
from ..files import atomic_write, write_error
from ..finiteness import postponed_checks
from ..parent_watch import WorkerInit
from .checkpoint_hook import KeepingCheckpointHook
from .distributed import wait_for_scoring
from .finite_loss_hook import FiniteLossHook
from .resumable_loops import ResumableEpochLoop, ResumableIterLoop
from .resume_checks import STEPS_KEY, describe_steps, require_same_schedule

_RESUMABLE_LOOPS = {
    'EpochBasedTrainLoop': ResumableEpochLoop,
    'IterBasedTrainLoop': ResumableIterLoop,
}


class CheckedRunner(Runner):
    """A Runner that refuses weights of another model and writes checkpoints atomically.

    For testing and resuming, all weights must match the config's model. For ``load_from``, which
    starts a training from other weights, at least half of the model must match; the rest is
    reported. Training stops at the first loss that is not finite, and weights that are not finite
    are not saved.
    """

    _requires_complete_checkpoint = False
    _is_resuming = False

    @property
    def bare_model(self) -> nn.Module:
        """The model without the wrapper of distributed training."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    def train(self) -> nn.Module:
        """Train the model.

        Returns:
            The model.

        Raises:
            CibaError: The checkpoint belongs to another training, or the training diverged.
        """
        try:
            with wait_for_scoring():
                return super().train()
        finally:
            postponed_checks()

    def test(self) -> dict[str, float]:
        """Score the model on the test data.

        Returns:
            Name of each metric to its value.

        Raises:
            CibaError: The checkpoint belongs to another model.
        """
        self._requires_complete_checkpoint = True
        with wait_for_scoring():
            return super().test()

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume from a checkpoint of this training.

        Args:
            filename: File or URL of the checkpoint.
            *args: See mmengine's ``Runner.resume``.
            **kwargs: See mmengine's ``Runner.resume``.

        Raises:
            CibaError: The checkpoint was written with another model, schedule or total batch size.
        """
        self._requires_complete_checkpoint = self._is_resuming = True
        super().resume(filename, *args, **kwargs)
        self._is_resuming = False

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool = False,
        revise_keys: Sequence[tuple[str, str]] = ((r'^module\.', ''),),
    ) -> dict[str, Any]:
        """Load a checkpoint's weights into the model.

        Args:
            filename: File, URL, or name of published weights.
            map_location: Where tensors go, as for ``torch.load``.
            strict: Whether all weights must match for ``load_from``, too.
            revise_keys: Regular expressions and their replacements for the names.

        Returns:
            The checkpoint.

        Raises:
            CibaError: The file cannot be read, or the weights belong to another model.
        """
        checkpoint = CheckpointLoader.load_checkpoint(filename, map_location, self.logger)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        comparison = load_weights(self.bare_model, get_state_dict(checkpoint, revise_keys))
        if strict or self._requires_complete_checkpoint:
            require_complete(comparison, filename, self.cfg.filename or 'this config')
        else:
            require_half(comparison, filename, 'load_from')
        if self._is_resuming:
            require_same_schedule(checkpoint, filename, self)
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    @master_only
    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Write a checkpoint, atomically in a local folder.

        Args:
            out_dir: Folder.
            filename: Name of the file.
            file_client_args: See mmengine's ``Runner.save_checkpoint``.
            save_optimizer: Whether to save the state of the optimizer.
            save_param_scheduler: Whether to save the state of the schedulers.
            meta: Further metadata.
            by_epoch: Whether the training counts epochs.
            backend_args: See mmengine's ``Runner.save_checkpoint``.

        Raises:
            CibaError: The weights are not finite, or the file cannot be written.
        """
        self._require_finite_weights(filename)
        write = partial(
            super().save_checkpoint,
            save_optimizer=save_optimizer,
            save_param_scheduler=save_param_scheduler,
            meta={**(meta or {}), STEPS_KEY: describe_steps(self)},
            by_epoch=by_epoch,
        )
        if file_client_args or backend_args or '://' in str(out_dir):
            write(out_dir, filename, file_client_args, backend_args=backend_args)
            return
        with atomic_write(Path(out_dir, filename)) as unfinished:
            write(str(unfinished.parent), unfinished.name)

    def _require_finite_weights(self, filename: str) -> None:
        """Check the weights, which the step after the last loss may have made infinite."""
        weights = dict(self.bare_model.named_parameters())
        finite = [value.detach().isfinite().all() for value in weights.values()]
        flags = (
            torch.stack([flag.to(finite[0].device) for flag in finite]).tolist() if finite else []
        )
        invalid = [name for name, is_finite in zip(weights, flags) if not is_finite]
        if invalid:
            raise CibaError(
                f'{filename} is not written: {len(invalid)} of {len(weights)} parameters contain '
                f'NaN or infinity, such as {invalid[0]}. The last step diverged; resume from the '
                'previous checkpoint with a lower learning rate or in float32.'
            )

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop, with the ability to resume within an epoch.

        Args:
            loop: Config of the loop, or the loop.

        Returns:
            The loop; for mmengine's two loops, the corresponding class of this package.
        """
        if isinstance(loop, dict):
            names = ('IterBasedTrainLoop', 'EpochBasedTrainLoop')
            kind = loop['type'] if 'type' in loop else names[bool(loop.get('by_epoch'))]
            kind = _RESUMABLE_LOOPS.get(getattr(kind, '__name__', kind))
            if kind is not None:
                options = {name: loop[name] for name in loop if name not in ('type', 'by_epoch')}
                return kind(self, self._train_dataloader, **options)
        return super().build_train_loop(loop)

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> DataLoader:
        """Build a data loader whose worker processes end with this process.

        Args:
            dataloader: Config of the data loader, or the data loader.
            *args: See mmengine's ``Runner.build_dataloader``.
            **kwargs: See mmengine's ``Runner.build_dataloader``.

        Returns:
            The data loader.
        """
        loader = Runner.build_dataloader(dataloader, *args, **kwargs)
        if not isinstance(loader.worker_init_fn, WorkerInit):
            loader.worker_init_fn = WorkerInit(loader.worker_init_fn)
        return loader

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger; a log file that cannot be written raises an error.

        Args:
            *args: See mmengine's ``Runner.build_logger``.
            **kwargs: See mmengine's ``Runner.build_logger``.

        Returns:
            The logger.
        """
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handleError = partial(_raise_log_error, handler)
        return logger

    def register_hook(self, hook: Hook | dict, *args: Any, **kwargs: Any) -> None:
        """Register a hook; ``CheckpointHook`` is replaced by :class:`KeepingCheckpointHook`.

        Args:
            hook: The hook, or its config.
            *args: See mmengine's ``Runner.register_hook``.
            **kwargs: See mmengine's ``Runner.register_hook``.
        """
        if isinstance(hook, dict) and hook.get('type') in ('CheckpointHook', CheckpointHook):
            hook = dict(hook, type=KeepingCheckpointHook)
        super().register_hook(hook, *args, **kwargs)

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register mmengine's default hooks and :class:`FiniteLossHook`.

        Args:
            hooks: See mmengine's ``Runner.register_default_hooks``.
        """
        super().register_default_hooks(hooks)
        self.register_hook(FiniteLossHook())


def _raise_log_error(handler: logging.FileHandler, record: logging.LogRecord) -> None:
    """Raise the current exception, for which ``logging`` would only print a trace."""
    error = sys.exc_info()[1]
    if isinstance(error, OSError):
        raise write_error(handler.baseFilename, error) from error
    logging.Handler.handleError(handler, record)
