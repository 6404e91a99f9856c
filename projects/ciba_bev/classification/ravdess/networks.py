"""The networks of the RAVDESS experiments (paper, Sec. 5.1 and D.2).

Three convolutions, then three linear layers. The distilled feature is the output of the first
linear layer, ``feature``, before its activation.
"""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from ...registry import MODELS


class _Convolutions(nn.Sequential):
    """Three convolutions, each with pooling, the last one to a fixed grid; flattened."""

    def __init__(
        self, in_channels: int, channels: Sequence[int], kernels: Sequence[int], grid: Sequence[int]
    ) -> None:
        first, second, third = channels
        super().__init__(
            nn.Conv2d(in_channels, first, kernels[0], padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, kernels[1], padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(second, third, kernels[2], padding=1),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(tuple(grid)),
            nn.Flatten(),
        )
        self.out_features = third * grid[0] * grid[1]
        # Smallest input for which the last pooling gets one cell; from the last layer back.
        self.smallest = max(1, kernels[2] - 2)
        for kernel in (kernels[1], kernels[0]):
            self.smallest = 2 * self.smallest + kernel - 3

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, channels, rows, columns) to (B, out_features)."""
        if min(image.shape[2:]) < self.smallest:
            size = ' x '.join(map(str, image.shape[2:]))
            raise ConfigError(
                f'an input of {size} is too small for the convolutions, which need '
                f'{self.smallest} rows and columns. Prepare the data with more (coefficients and '
                'frames of a sound, pixels of an image), or use smaller kernels.'
            )
        return super().forward(image)


class _Head(nn.Module):
    """The layers after the distilled feature."""

    def __init__(self, feature_size: int, hidden_size: int, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(feature_size, hidden_size)
        self.classifier = nn.Linear(hidden_size, classes)

    def forward(self, feature: Tensor) -> Tensor:
        # Not in place: a tap reads the feature before the activation.
        return self.classifier(F.relu(self.hidden(F.relu(feature))))


@MODELS.register_module()
class RavdessImageNetwork(nn.Module):
    """Classifier of emotions from a frame of the video; 13,071,560 parameters by default.

    Args:
        channels: Output channels of the three convolutions.
        kernels: Their kernel sizes; the padding is one.
        grid: Rows and columns after the last pooling, for any image size.
        feature_size: Width of the distilled feature.
        hidden_size: Width of the second linear layer.
        classes: Number of emotions.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128),
        kernels: Sequence[int] = (3, 3, 3),
        grid: Sequence[int] = (7, 14),
        feature_size: int = 1024,
        hidden_size: int = 128,
        classes: int = 8,
    ) -> None:
        super().__init__()
        self.input_shapes = {'image': (3, None, None)}
        self.classes = classes
        self.convolutions = _Convolutions(3, channels, kernels, grid)
        self.feature = nn.Linear(self.convolutions.out_features, feature_size)
        self.head = _Head(feature_size, hidden_size, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Classify images.

        Args:
            image: (B, 3, rows, columns), float32, normalised.

        Returns:
            Logits (B, classes).
        """
        return self.head(self.feature(self.convolutions(image)))


@MODELS.register_module()
class RavdessAudioNetwork(nn.Module):
    """Classifier of emotions from the sound: the image network with larger kernels.

    Args:
        channels: Output channels of the three convolutions.
        kernels: Their kernel sizes; the padding is one.
        grid: Rows and columns after the last pooling, for any length of the sound.
        feature_size: Width of the distilled feature.
        hidden_size: Width of the second linear layer.
        classes: Number of emotions.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128),
        kernels: Sequence[int] = (7, 5, 5),
        grid: Sequence[int] = (7, 14),
        feature_size: int = 1024,
        hidden_size: int = 128,
        classes: int = 8,
    ) -> None:
        super().__init__()
        self.input_shapes = {'audio': (1, None, None)}
        self.classes = classes
        self.convolutions = _Convolutions(1, channels, kernels, grid)
        self.feature = nn.Linear(self.convolutions.out_features, feature_size)
        self.head = _Head(feature_size, hidden_size, classes)

    def forward(self, audio: Tensor) -> Tensor:
        """Classify sounds.

        Args:
            audio: (B, 1, coefficients, frames), float32, normalised.

        Returns:
            Logits (B, classes).
        """
        return self.head(self.feature(self.convolutions(audio)))


@MODELS.register_module()
class RavdessFusionNetwork(nn.Module):
    """Classifier of emotions from both: the convolutions of the two networks, then linear layers.

    The paper mentions this network (Table 7) but does not describe it. Here the first linear layer
    reads the concatenated features of both modalities, so that ``feature`` has the same shape as in
    the other networks.

    Args:
        channels: Output channels of the three convolutions of each modality.
        image_kernels: Kernel sizes for the image.
        audio_kernels: Kernel sizes for the sound.
        grid: Rows and columns after the last pooling.
        feature_size: Width of the distilled feature.
        hidden_size: Width of the second linear layer.
        classes: Number of emotions.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128),
        image_kernels: Sequence[int] = (3, 3, 3),
        audio_kernels: Sequence[int] = (7, 5, 5),
        grid: Sequence[int] = (7, 14),
        feature_size: int = 1024,
        hidden_size: int = 128,
        classes: int = 8,
    ) -> None:
        super().__init__()
        self.input_shapes = {'image': (3, None, None), 'audio': (1, None, None)}
        self.classes = classes
        self.image_convolutions = _Convolutions(3, channels, image_kernels, grid)
        self.audio_convolutions = _Convolutions(1, channels, audio_kernels, grid)
        both = self.image_convolutions.out_features + self.audio_convolutions.out_features
        self.feature = nn.Linear(both, feature_size)
        self.head = _Head(feature_size, hidden_size, classes)

    def forward(self, image: Tensor, audio: Tensor) -> Tensor:
        """Classify pairs of image and sound.

        Args:
            image: (B, 3, rows, columns), float32, normalised.
            audio: (B, 1, coefficients, frames), float32, normalised.

        Returns:
            Logits (B, classes).
        """
        features = torch.cat((self.image_convolutions(image), self.audio_convolutions(audio)), 1)
        return self.head(self.feature(features))
