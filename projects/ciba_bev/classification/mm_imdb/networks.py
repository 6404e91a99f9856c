"""The networks of the MM-IMDB experiments (paper, Sec. 5.2 and D.3).

Encoders are the reference's two-layer maxout networks with every intermediate feature narrowed to
64; the head is one more maxout layer and a linear one. What is distilled is the output of
``feature``, 64 channels in all networks.
"""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...registry import MODELS


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
    """Batch normalisation of the input and two layers of maxout, dropout before each.

    Args:
        in_channels: Inputs.
        channels: Hidden and output channels.
        pool_size: See :class:`Maxout`.
        dropout: Probability that an input of a layer is dropped.
    """

    def __init__(
        self, in_channels: int, channels: int = 64, pool_size: int = 2, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(in_channels),
            nn.Dropout(dropout),
            Maxout(in_channels, channels, pool_size),
            nn.Dropout(dropout),
            Maxout(channels, channels, pool_size),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels) to (B, channels)."""
        return self.layers(x)


def _make_head(channels: int, genres: int, pool_size: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm1d(channels),
        nn.Dropout(dropout),
        Maxout(channels, channels, pool_size),
        nn.Dropout(dropout),
        nn.Linear(channels, genres),
    )


@MODELS.register_module()
class MMIMDBNetwork(BaseModule):
    """Genres from one modality.

    Args:
        modality: Which input it reads, ``'image'`` or ``'text'``.
        in_channels: Its channels: 4096 of an image, 300 of a text.
        channels: Of all intermediate features.
        genres: Labels.
        pool_size: See :class:`Maxout`.
        dropout: Probability of dropping, everywhere.
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
        self.feature = MaxoutEncoder(in_channels, channels, pool_size, dropout)
        self.head = _make_head(channels, genres, pool_size, dropout)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Classify a batch.

        Args:
            inputs: The modality by its name, (B, in_channels).

        Returns:
            Logits (B, genres).
        """
        return self.head(self.feature(inputs[self.modality]))


@MODELS.register_module()
class MMIMDBFusionNetwork(BaseModule):
    """Genres from both modalities: their encoded features side by side, projected linearly.

    Args:
        image_channels: Of an image.
        text_channels: Of a text.
        channels: Of all intermediate features.
        genres: Labels.
        pool_size: See :class:`Maxout`.
        dropout: Probability of dropping, everywhere.
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
        self.image_encoder = MaxoutEncoder(image_channels, channels, pool_size, dropout)
        self.text_encoder = MaxoutEncoder(text_channels, channels, pool_size, dropout)
        self.feature = nn.Linear(2 * channels, channels)
        self.head = _make_head(channels, genres, pool_size, dropout)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Classify a batch.

        Args:
            image: (B, image_channels).
            text: (B, text_channels).

        Returns:
            Logits (B, genres).
        """
        encoded = torch.cat((self.image_encoder(image), self.text_encoder(text)), 1)
        return self.head(self.feature(encoded))
