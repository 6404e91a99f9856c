"""The networks of the MM-IMDB experiments (paper, Sec. 5.2 and D.3).

The encoders are the public two-layer maxout networks with every intermediate feature narrowed to
64; the head is the public one, a linear layer, a ReLU and a linear layer. The distilled feature is
the output of ``feature``, 64 channels in all networks: of one modality the normalised output of the
encoder, of both the linear projection. Dropout follows it, so a distillation loss sees no noise.
"""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...registry import MODELS

# The public network's, ten times torch's default.
_INPUT_EPS = 1e-4


class Maxout(nn.Module):
    """A linear layer of which every output is the largest of a few (Goodfellow et al. 2013).

    Args:
        in_channels: Inputs.
        out_channels: Outputs.
        pool_size: Linear functions an output is the maximum of.
    """

    def __init__(self, in_channels: int, out_channels: int, pool_size: int = 2) -> None:
        super().__init__()
        self.pool_size = pool_size
        self.linear = nn.Linear(in_channels, out_channels * pool_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels) to (B, out_channels)."""
        return self.linear(x).unflatten(-1, (-1, self.pool_size)).amax(-1)


class MaxoutEncoder(nn.Module):
    """Two maxout layers with batch normalisation before, between and after them.

    Args:
        in_channels: Inputs.
        channels: Hidden and output channels.
        pool_size: See :class:`Maxout`.
        dropout: Probability that a hidden channel is dropped. The input is not dropped, and what
            follows the last normalisation is left to the caller.
    """

    def __init__(
        self, in_channels: int, channels: int = 64, pool_size: int = 2, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(in_channels, eps=_INPUT_EPS),
            Maxout(in_channels, channels, pool_size),
            nn.BatchNorm1d(channels),
            nn.Dropout(dropout),
            Maxout(channels, channels, pool_size),
            nn.BatchNorm1d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels) to (B, channels)."""
        return self.layers(x)


def _make_head(channels: int, genres: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, genres))


@MODELS.register_module()
class MMIMDBNetwork(BaseModule):
    """Genres from one modality.

    Args:
        modality: Which input it reads, ``'image'`` or ``'text'``.
        in_channels: Its channels: 4096 of an image, 300 of a text.
        channels: Of all intermediate features.
        genres: Labels.
        pool_size: See :class:`Maxout`.
        dropout: Probability of dropping, in the encoder and after it.
    """

    def __init__(
        self,
        modality: str,
        in_channels: int,
        channels: int = 64,
        genres: int = 23,
        pool_size: int = 2,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.modality = modality
        self.input_shapes = {modality: (in_channels,)}
        self.classes = genres
        self.feature = MaxoutEncoder(in_channels, channels, pool_size, dropout)
        self.dropout = nn.Dropout(dropout)
        self.head = _make_head(channels, genres)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Classify a batch.

        Args:
            inputs: The modality by its name, (B, in_channels).

        Returns:
            Logits (B, genres).
        """
        return self.head(self.dropout(self.feature(inputs[self.modality])))


@MODELS.register_module()
class MMIMDBFusionNetwork(BaseModule):
    """Genres from both modalities: their encoded features side by side, projected linearly.

    Args:
        image_channels: Of an image.
        text_channels: Of a text.
        channels: Of all intermediate features.
        genres: Labels.
        pool_size: See :class:`Maxout`.
        dropout: Probability of dropping, in the encoder and after it.
    """

    def __init__(
        self,
        image_channels: int = 4096,
        text_channels: int = 300,
        channels: int = 64,
        genres: int = 23,
        pool_size: int = 2,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.input_shapes = {'image': (image_channels,), 'text': (text_channels,)}
        self.classes = genres
        self.image_encoder = MaxoutEncoder(image_channels, channels, pool_size, dropout)
        self.text_encoder = MaxoutEncoder(text_channels, channels, pool_size, dropout)
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
