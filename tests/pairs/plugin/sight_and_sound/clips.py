"""Generated clips: a picture and a sound that share their class."""

from __future__ import annotations

from typing import Sequence

import torch
from mmengine.evaluator import BaseMetric
from mmengine.structures import BaseDataElement, LabelData
from torch import Tensor
from torch.utils.data import Dataset

from .registry import DATASETS, METRICS

CLASSES = 4


@DATASETS.register_module()
class ClipDataset(Dataset):
    """Clips drawn from their number.

    Args:
        length: How many.
        first: Number of the first clip.
        inputs: Which of ``'picture'`` (3, 16, 16) and ``'sound'`` (1, 64) are loaded.
    """

    def __init__(
        self, length: int, first: int = 0, inputs: Sequence[str] = ('picture', 'sound')
    ) -> None:
        self.length = length
        self.first = first
        self.inputs = tuple(inputs)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        number = self.first + index
        generator = torch.Generator().manual_seed(number)
        label = number % CLASSES
        time = torch.arange(64) / 64
        loaded = {
            'picture': torch.randn(3, 16, 16, generator=generator) + label,
            'sound': torch.sin(time * (label + 1) * 6.28)[None]
            + 0.1 * torch.randn(1, 64, generator=generator),
        }
        sample = BaseDataElement(metainfo=dict(sample_idx=number))
        sample.gt_label = LabelData(item=torch.tensor(label))
        return {'inputs': {name: loaded[name] for name in self.inputs}, 'data_samples': sample}


@METRICS.register_module()
class ClipAccuracy(BaseMetric):
    """Share of clips whose class is found."""

    default_prefix = 'clips'

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        self.results += [
            sample['pred_scores'].argmax() == sample['gt_label']['item'] for sample in data_samples
        ]

    def compute_metrics(self, results: list[Tensor]) -> dict[str, float]:
        return {'accuracy': float(torch.stack(results).float().mean())}
