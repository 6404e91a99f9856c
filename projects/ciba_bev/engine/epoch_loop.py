"""Training by epochs that can go on in the middle of one."""

from __future__ import annotations

from typing import Any, Iterable

from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import DataLoader


class ResumableEpochLoop(EpochBasedTrainLoop):
    """mmengine's loop over epochs, which begins a resumed epoch where the checkpoint was written.

    Checkpoints that are written every so many iterations mostly lie within an epoch. mmengine
    repeats that epoch from its first batch, and every later step comes too late by as many.
    """

    def run_epoch(self) -> None:
        """Iterate one epoch, without the batches that the resumed training has seen already."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        seen = self._iter - self._epoch * len(self.dataloader)
        batches: Iterable[Any] = self.dataloader if seen <= 0 else _after(self.dataloader, seen)
        for index, batch in enumerate(batches, max(seen, 0)):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


def _after(loader: DataLoader, seen: int) -> Iterable[Any]:
    """The batches of an epoch from one of them on, without loading those before."""
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
