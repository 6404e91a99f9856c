"""The networks of the MM-IMDB experiments (paper, Sec. 5.2 and D.3).

The encoders are the published two-layer maxout networks with 64 channels in every intermediate
feature; the head is the published one, a linear layer, a ReLU and a linear layer. The distilled
feature is the output of ``feature``, which has 64 channels in all networks: the normalised output
of the encoder for one modality, the linear projection for both. Dropout comes after it, so that the
distillation loss has no such noise.
"""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...registry import MODELS

# As in the published network: ten times torch's default.
_INPUT_EPS = 1e-4


class Maxout(nn.Module):
    """Linear layer with maxout activation (Goodfellow et al. 2013).

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        pool_size: Number of linear functions whose maximum is an output.
    """

    def __init__(self, in_channels: int, out_channels: int, pool_size: int = 2) -> None:
        super().__init__()
        self.pool_size = pool_size
        self.linear = nn.Linear(in_channels, out_channels * pool_size)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            x: (B, in_channels).

        Returns:
            (B, out_channels).
        """
        return self.linear(x).unflatten(-1, (-1, self.pool_size)).amax(-1)


class MaxoutEncoder(nn.Module):
    """Two maxout layers with batch normalisation before, between and after them.

    Args:
        in_channels: Input channels.
        channels: Hidden and output channels.
        dropout: Dropout probability of the hidden channels. There is no dropout on the input and
            after the last normalisation.
    """

    def __init__(self, in_channels: int, channels: int = 64, dropout: float = 0.3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(in_channels, eps=_INPUT_EPS),
            Maxout(in_channels, channels),
            nn.BatchNorm1d(channels),
            nn.Dropout(dropout),
            Maxout(channels, channels),
            nn.BatchNorm1d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Encode a batch.

        Args:
            x: (B, in_channels).

        Returns:
            (B, channels).
        """
        return self.layers(x)


def _make_head(channels: int, genres: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, genres))


@MODELS.register_module()
class MMIMDBNetwork(BaseModule):
    """Classifier of genres from one modality.

    Args:
        modality: The input that it reads, ``'image'`` or ``'text'``.
        in_channels: Channels of the input: 4096 for images, 300 for texts.
        channels: Channels of all intermediate features.
        genres: Number of genres.
        dropout: Dropout probability, in the encoder and after it.
    """

    def __init__(
        self,
        modality: str,
        in_channels: int,
        channels: int = 64,
        genres: int = 23,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.modality = modality
        self.input_shapes = {modality: (in_channels,)}
        self.classes = genres
        self.feature = MaxoutEncoder(in_channels, channels, dropout)
        self.dropout = nn.Dropout(dropout)
        self.head = _make_head(channels, genres)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Classify a batch.

        Args:
            **inputs: Name of each modality to (B, in_channels).

        Returns:
            Logits (B, genres).
        """
        return self.head(self.dropout(self.feature(inputs[self.modality])))


@MODELS.register_module()
class MMIMDBFusionNetwork(BaseModule):
    """Classifier of genres from both modalities: encoded features, concatenated and projected.

    Args:
        image_channels: Channels of an image.
        text_channels: Channels of a text.
        channels: Channels of all intermediate features.
        genres: Number of genres.
        dropout: Dropout probability, in the encoders and after them.
    """

    def __init__(
        self,
        image_channels: int = 4096,
        text_channels: int = 300,
        channels: int = 64,
        genres: int = 23,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.input_shapes = {'image': (image_channels,), 'text': (text_channels,)}
        self.classes = genres
        self.image_encoder = MaxoutEncoder(image_channels, channels, dropout)
        self.text_encoder = MaxoutEncoder(text_channels, channels, dropout)
        self.dropout = nn.Dropout(dropout)
        self.feature = nn.Linear(2 * channels, channels)
        self.head = _make_head(channels, genres)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Classify a batch.

        Args:
            image: (B, image_channels).
            text: (B, text_channels).

        Returns:
            Logits (B, genres).
        """
        encoded = torch.cat((self.image_encoder(image), self.text_encoder(text)), 1)
        return self.head(self.feature(self.dropout(encoded)))
