"""The networks of the VGG-Sound experiments: ResNets for both modalities (paper, Sec. 5.4, D.5).

They are trained from random weights; the paper does not mention pretraining. The distilled feature
is the output of average pooling. As a mean of rectified values it is never negative, whereas a code
may be; the student's first channels can only approximate it.
"""

from __future__ import annotations

from mmdet.models import ResNet
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...errors import ConfigError
from ...registry import MODELS

# The output width of the residual blocks doubles three times from the first stage to the last.
_LAST_STAGE = 8


@MODELS.register_module()
class VGGSoundNetwork(BaseModule):
    """Classifier of events from a frame or a spectrogram; ``feature`` is the average pooling.

    Depths 18 and 50 on three channels with 1000 classes have the published 11,689,512 and
    25,557,032 parameters.

    Args:
        modality: ``'video'``, which has three channels, or ``'audio'``, which has one.
        depth: Depth of the ResNet: 18, 34, 50, 101 or 152.
        feature_size: Channels of the feature; None for 512, or 2048 from depth 50 on. The width of
            all layers is scaled in proportion.
        narrowed_size: Channels of ``narrowed``, which averages neighbouring channels of the
            feature. MSE on all channels needs it if the teacher's feature is wider than the
            student's. The paper does not describe its solution. Averages have no parameters and,
            as the student's features, are never negative. None to omit it.
        classes: Number of classes.

    Raises:
        ConfigError: There is no such modality or depth, or a size is not divisible.
    """

    def __init__(
        self,
        modality: str,
        depth: int = 18,
        feature_size: int | None = None,
        narrowed_size: int | None = None,
        classes: int = 100,
    ) -> None:
        super().__init__()
        channels = {'video': 3, 'audio': 1}
        if modality not in channels:
            raise ConfigError(f"modality is {modality!r}; it must be 'video' or 'audio'.")
        self.modality = modality
        self.input_shapes = {modality: (channels[modality], None, None)}
        self.classes = classes
        if depth not in ResNet.arch_settings:
            raise ConfigError(f'depth is {depth}; it must be one of {list(ResNet.arch_settings)}.')
        expansion = ResNet.arch_settings[depth][0].expansion
        unit = _LAST_STAGE * expansion
        feature_size = 64 * unit if feature_size is None else feature_size
        if feature_size % unit:
            raise ConfigError(
                f'feature_size is {feature_size}; at depth {depth} it must be a multiple of {unit}.'
            )
        self.backbone = ResNet(
            depth,
            in_channels=channels[modality],
            base_channels=feature_size // unit,
            out_indices=(3,),
            # mmdet's defaults are for fine-tuning; these train from scratch, as in He et al.
            norm_eval=False,
            zero_init_residual=False,
        )
        self.feature = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.narrowed = None if narrowed_size is None else ChannelMeans(feature_size, narrowed_size)
        self.classifier = nn.Linear(feature_size, classes)

    def forward(self, video: Tensor | None = None, audio: Tensor | None = None) -> Tensor:
        """Classify clips.

        Args:
            video: (B, 3, rows, columns), float32, normalised; None for an audio network.
            audio: (B, 1, bins, frames), float32; None for a video network.

        Returns:
            Logits (B, classes).
        """
        (last_stage,) = self.backbone(video if self.modality == 'video' else audio)
        feature = self.feature(last_stage)
        if self.narrowed is not None:
            # Only for taps; costs next to nothing.
            self.narrowed(feature)
        return self.classifier(feature)


class ChannelMeans(nn.Module):
    """Averages of neighbouring channels.

    Args:
        in_channels: Channels of the feature.
        out_channels: A divisor of ``in_channels``.

    Raises:
        ConfigError: It is not a divisor.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        if out_channels < 1 or in_channels % out_channels:
            raise ConfigError(
                f'{in_channels} channels cannot be averaged to {out_channels}: it is not a divisor.'
            )
        self.out_channels = out_channels

    def forward(self, feature: Tensor) -> Tensor:
        """Average neighbouring channels.

        Args:
            feature: (B, in_channels).

        Returns:
            (B, out_channels).
        """
        return feature.unflatten(1, (self.out_channels, -1)).mean(2)
