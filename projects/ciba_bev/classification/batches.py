"""Batches of data sets that are resident in memory: one look-up a batch, not one a sample."""

from __future__ import annotations

from typing import Any, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..registry import FUNCTIONS


class ResidentDataset(Dataset):
    """Rows of tensors in memory; the data loader gets whole batches.

    With ``collate_fn=dict(type='ciba_bev.as_it_is')`` a batch is one indexing operation.

    Args:
        inputs: By modality, (N, ...), the same N.
        labels: (N,) int64 class indices, or (N, K) float32 of zeros and ones.
        names: N names of samples, for messages.
    """

    def __init__(self, inputs: dict[str, Tensor], labels: Tensor, names: Sequence[str]) -> None:
        self.inputs = inputs
        self.labels = labels
        self.names = list(names)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One row, without the batch axis."""
        return {
            'inputs': {name: value[index] for name, value in self.inputs.items()},
            'labels': self.labels[index],
            'names': self.names[index],
        }

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        """A batch; what torch's data loader asks for where a data set has it."""
        chosen = torch.as_tensor(indices)
        return {
            'inputs': {name: value[chosen] for name, value in self.inputs.items()},
            'labels': self.labels[chosen],
            'names': [self.names[index] for index in indices],
        }


@FUNCTIONS.register_module()
def as_it_is(batch: dict[str, Any]) -> dict[str, Any]:
    """The collate function of data that come as batches."""
    return batch
