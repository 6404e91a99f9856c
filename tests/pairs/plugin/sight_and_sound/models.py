"""A classifier of backbone and head."""

from __future__ import annotations

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.nn import functional as F

from .registry import MODELS


@MODELS.register_module()
class PictureBackbone(nn.Sequential):
    """Pictures (B, 3, H, W) to features (B, channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(3, channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


@MODELS.register_module()
class SoundBackbone(nn.Sequential):
    """Sounds (B, 1, T) to features (B, channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv1d(1, channels, 9, stride=2, padding=4),
            nn.ReLU(),
            nn.AdaptiveMaxPool1d(1),
            nn.Flatten(),
        )


@MODELS.register_module()
class ClipClassifier(BaseModel):
    """Classifies clips by one of their inputs.

    Args:
        reads: Which input.
        backbone: Config.
        channels: Of the backbone's feature.
        num_classes: How many classes.
    """

    def __init__(self, reads: str, backbone: dict, channels: int, num_classes: int) -> None:
        super().__init__()
        self.reads = reads
        self.backbone = MODELS.build(dict(backbone, channels=channels))
        self.head = nn.Linear(channels, num_classes)

    def forward(
        self, inputs: dict[str, list[Tensor]], data_samples: list[BaseDataElement], mode: str
    ) -> Tensor | dict[str, Tensor] | list[BaseDataElement]:
        logits = self.head(self.backbone(torch.stack(inputs[self.reads])))
        if mode == 'loss':
            labels = torch.stack([sample.gt_label.item for sample in data_samples])
            return {'loss': F.cross_entropy(logits, labels)}
        if mode == 'predict':
            for sample, row in zip(data_samples, logits):
                sample.set_field(row.softmax(0), 'pred_scores')
            return data_samples
        return logits
