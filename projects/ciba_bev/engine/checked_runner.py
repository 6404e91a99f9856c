"""mmengine's Runner, with checkpoints that are checked when read and whole when written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Sequence

from mmengine.dist import master_only
from mmengine.model import is_model_wrapper
from mmengine.runner import CheckpointLoader, Runner
from torch import nn

from ..checkpoints.matching import load_weights, require_complete, require_half, weights_of


class CheckedRunner(Runner):
    """A Runner that loads no weights of another model and never leaves half a checkpoint behind.

    Testing and resuming want exactly the config's model; ``load_from``, which starts a training
    from other weights, wants at least half of the model filled and reports the rest.
    """

    _wants_complete_checkpoint = False

    @property
    def bare_model(self) -> nn.Module:
        """The model itself, without the wrapper of distributed training."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    def test(self) -> dict[str, float]:
        """Score the model on the test data.

        Returns:
            Name of each metric to its value.

        Raises:
            CibaError: The checkpoint is not one of this model.
        """
        self._wants_complete_checkpoint = True
        return super().test()

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Go on from a checkpoint of this training; arguments as for mmengine's Runner.

        Raises:
            CibaError: The checkpoint is not one of this model.
        """
        self._wants_complete_checkpoint = True
        super().resume(filename, *args, **kwargs)

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool = False,
        revise_keys: Sequence[tuple[str, str]] = ((r'^module\.', ''),),
    ) -> dict[str, Any]:
        """Load a checkpoint's weights into the model.

        Args:
            filename: File, address, or name of published weights.
            map_location: Where tensors go, as for ``torch.load``.
            strict: Whether everything must fit, also where a part would do.
            revise_keys: Regular expressions and their replacements for the names.

        Returns:
            The whole checkpoint.

        Raises:
            CibaError: The file cannot be read, or the weights are another model's.
        """
        checkpoint = CheckpointLoader.load_checkpoint(filename, map_location, self.logger)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        comparison = load_weights(self.bare_model, weights_of(checkpoint, revise_keys))
        if strict or self._wants_complete_checkpoint:
            require_complete(comparison, filename, self.cfg.filename or 'this config')
        else:
            require_half(comparison, filename, 'load_from')
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint; arguments as for mmengine's Runner.

        In a local folder it appears under its name only once it is complete.
        """
        if not os.path.isdir(out_dir):
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        partial = f'.{filename}.partial'
        super().save_checkpoint(out_dir, partial, *args, **kwargs)
        os.replace(Path(out_dir, partial), Path(out_dir, filename))
