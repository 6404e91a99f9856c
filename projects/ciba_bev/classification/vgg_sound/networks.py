"""The networks of the VGG-Sound experiments (paper, Sec. 5.4 and D.5).

The same ResNet for both modalities, but for the channels of its first convolution. What is
distilled is the output of the average pooling, ``feature``.
"""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn

from ...errors import CibaError
from ...registry import MODELS

CHANNELS = {'audio': 1, 'image': 3}


@MODELS.register_module()
class VGGSoundNetwork(BaseModule):
    """The event, from a spectrogram or a frame.

    Nothing is frozen and nothing is pretrained; the paper mentions neither.

    Args:
        modality: ``'audio'`` or ``'image'``.
        depth: Of the ResNet; 18 has a feature of 512 channels, 50 one of 2048.
        classes: Events.
        base_channels: Width of the ResNet's first stage, which all others follow.

    Raises:
        CibaError: The modality does not exist.
    """

    def __init__(
        self, modality: str, depth: int = 18, classes: int = 100, base_channels: int = 64
    ) -> None:
        super().__init__()
        if modality not in CHANNELS:
            raise CibaError(f'modality is {modality!r}; it must be of {", ".join(CHANNELS)}.')
        self.modality = modality
        self.backbone = MODELS.build(
            dict(
                type='mmdet.ResNet',
                depth=depth,
                in_channels=CHANNELS[modality],
                base_channels=base_channels,
                out_indices=(3,),
                # mmdet's defaults are for backbones that detectors fine-tune.
                norm_eval=False,
                zero_init_residual=False,
            )
        )
        self.feature = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(self.backbone.feat_dim, classes)

    def forward(self, audio: Tensor | None = None, image: Tensor | None = None) -> Tensor:
        """Classify a batch of the network's own modality.

        Args:
            audio: (B, 1, frequencies, frames), float32.
            image: (B, 3, rows, columns), float32, normalised.

        Returns:
            Logits (B, classes).
        """
        (maps,) = self.backbone(audio if self.modality == 'audio' else image)
        return self.classifier(self.feature(maps))
