"""Data sets that fit into memory: a batch is one indexing operation."""

from __future__ import annotations

from typing import Any, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..registry import FUNCTIONS


class InMemoryDataset(Dataset):
    """Tensors in memory that the data loader reads in whole batches.

    Use it with ``collate_fn=dict(type='ciba_bev.as_it_is')``.

    Args:
        inputs: Name of each modality to its values, (N, ...).
        labels: (N,) int64 class indices, or (N, K) float32 of zeros and ones.
        names: N sample names, for messages.
    """

    def __init__(self, inputs: dict[str, Tensor], labels: Tensor, names: Sequence[str]) -> None:
        self.inputs = inputs
        self.labels = labels
        self.names = list(names)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one sample, without the batch axis."""
        return {
            'inputs': {name: value[index] for name, value in self.inputs.items()},
            'labels': self.labels[index],
            'names': self.names[index],
        }

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        """Return a batch; torch's data loader prefers this method to ``__getitem__``."""
        chosen = torch.as_tensor(indices)
        return {
            'inputs': {name: value[chosen] for name, value in self.inputs.items()},
            'labels': self.labels[chosen],
            'names': [self.names[index] for index in indices],
        }


@FUNCTIONS.register_module()
def as_it_is(batch: dict[str, Any]) -> dict[str, Any]:
    """Return a batch unchanged: the collate function of data sets that return batches.

    Args:
        batch: The batch.

    Returns:
        The same object.
    """
    return batch
