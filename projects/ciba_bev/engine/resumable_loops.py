"""Training loops that can be resumed within an epoch."""

from __future__ import annotations

from typing import Any, Iterable

import mmengine
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from mmengine.utils import digit_version
from torch import nn
from torch.utils.data import DataLoader

# Since this version, mmengine's loop over iterations skips the data of the iterations before.
_MMENGINE_ADVANCES = digit_version(mmengine.__version__) >= digit_version('0.10.3')


class ResumableEpochLoop(EpochBasedTrainLoop):
    """mmengine's loop over epochs, which resumes within an epoch.

    If checkpoints are written every N iterations, most of them are within an epoch. mmengine would
    repeat that epoch from its first batch, so that all later steps are delayed.
    """

    def run_epoch(self) -> None:
        """Run one epoch, without the batches before the checkpoint."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        seen = self._iter - self._epoch * len(self.dataloader)
        batches: Iterable[Any] = self.dataloader if seen <= 0 else _after(self.dataloader, seen)
        for index, batch in enumerate(batches, max(seen, 0)):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


class ResumableIterLoop(IterBasedTrainLoop):
    """mmengine's loop over iterations, which skips the data before the checkpoint."""

    def run(self) -> nn.Module:
        """Train, without the batches before the checkpoint.

        Returns:
            The model.
        """
        if not _MMENGINE_ADVANCES:
            for _ in range(self._iter):
                next(self.dataloader_iterator)
        return super().run()


def _after(loader: DataLoader, seen: int) -> Iterable[Any]:
    """Return the batches of an epoch after the first ones, without loading these."""
    order = list(loader.batch_sampler)[seen:]
    if not order:
        return []
    return DataLoader(
        loader.dataset,
        batch_sampler=order,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
    )
