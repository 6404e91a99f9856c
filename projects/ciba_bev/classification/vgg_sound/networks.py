"""The networks of the VGG-Sound experiments: ResNets for both modalities (paper, Sec. 5.4, D.5).

They start from random weights: the paper names no other start. What is distilled is the feature
after average pooling. It is the mean of rectified maps, so it is never negative; a code may be,
and a student's first channels come as near to it as they can.
"""

from __future__ import annotations

from mmdet.models import ResNet
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...errors import CibaError
from ...registry import MODELS

# Widths of the residual blocks' outputs double three times from the first stage to the last.
_LAST_STAGE = 8


@MODELS.register_module()
class VGGSoundNetwork(BaseModule):
    """The event from a frame or a spectrogram; ``feature`` is what comes out of average pooling.

    Depths 18 and 50 on three channels with 1000 classes have the published 11,689,512 and
    25,557,032 parameters.

    Args:
        modality: ``'video'``, which has three channels, or ``'audio'``, which has one.
        depth: Of the ResNet: 18, 34, 50, 101 or 152.
        feature_size: Channels of the feature; None for 512, or 2048 from depth 50 on. All layers
            are narrower or wider in proportion.
        narrowed_size: Channels of ``narrowed``, means of neighbouring channels of the feature: what
            MSE on all channels needs where the teacher's feature is wider than the student's.
            The paper does not say how it does that. Means have no parameters, and are as little
            negative as the student's own features. None for no such place.
        classes: Number of classes.

    Raises:
        CibaError: The modality is neither, or a size does not divide.
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
            raise CibaError(f"modality is {modality!r}; it must be 'video' or 'audio'.")
        self.modality = modality
        self.input_shapes = {modality: (channels[modality], None, None)}
        self.classes = classes
        if depth not in ResNet.arch_settings:
            raise CibaError(f'depth is {depth}; it must be one of {list(ResNet.arch_settings)}.')
        expansion = ResNet.arch_settings[depth][0].expansion
        unit = _LAST_STAGE * expansion
        feature_size = 64 * unit if feature_size is None else feature_size
        if feature_size % unit:
            raise CibaError(
                f'feature_size is {feature_size}; at depth {depth} it must be a multiple of {unit}.'
            )
        self.backbone = ResNet(
            depth,
            in_channels=channels[modality],
            base_channels=feature_size // unit,
            out_indices=(3,),
            # Detectors freeze these; from random weights all must learn, as in He et al.
            norm_eval=False,
            zero_init_residual=False,
        )
        self.feature = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.narrowed = None if narrowed_size is None else ChannelMeans(feature_size, narrowed_size)
        self.classifier = nn.Linear(feature_size, classes)

    def forward(self, video: Tensor | None = None, audio: Tensor | None = None) -> Tensor:
        """Classify clips.

        Args:
            video: (B, 3, rows, columns), float32, normalised; for a network of this modality.
            audio: (B, 1, bins, frames), float32; likewise.

        Returns:
            Logits (B, classes).
        """
        (maps,) = self.backbone(video if self.modality == 'video' else audio)
        feature = self.feature(maps)
        if self.narrowed is not None:
            # For those who tap it; costs next to nothing.
            self.narrowed(feature)
        return self.classifier(feature)


class ChannelMeans(nn.Module):
    """Means of neighbouring channels.

    Args:
        in_channels: Of the feature.
        out_channels: A divisor of that.

    Raises:
        CibaError: It is none.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        if out_channels < 1 or in_channels % out_channels:
            raise CibaError(
                f'{in_channels} channels cannot be narrowed to {out_channels}, which is no divisor.'
            )
        self.out_channels = out_channels

    def forward(self, feature: Tensor) -> Tensor:
        """Average.

        Args:
            feature: (B, in_channels).

        Returns:
            (B, out_channels).
        """
        return feature.unflatten(1, (self.out_channels, -1)).mean(2)
