"""Transformer modules of both detectors."""

from __future__ import annotations

import math

import torch
from mmcv.cnn.bricks.transformer import FFN
from torch import Tensor, nn

from ..errors import ConfigError
from ..ops import deformable_attention
from ..ops.deformable_attention import SpatialShapes
from ..ops.pyramid import level_sizes

# Up to this many weights, a row is too short for vector instructions along it.
_SHORT_ROW = 16


def inverse_sigmoid(probability: Tensor, eps: float = 1e-5) -> Tensor:
    """Return the logit of a probability, finite at 0 and 1.

    Args:
        probability: Any shape; clamped to [0, 1].
        eps: Smallest value of p and 1 - p.

    Returns:
        The logit, of the same shape.
    """
    probability = probability.clamp(0, 1)
    return torch.log(probability.clamp(min=eps) / (1 - probability).clamp(min=eps))


def softmax_over_points(logits: Tensor) -> Tensor:
    """Compute softmax over the sampling points of a head.

    Args:
        logits: Any shape; the last axis is that of the points.

    Returns:
        The weights, of the same shape.
    """
    if logits.device.type == 'cpu' and logits.size(-1) <= _SHORT_ROW:
        # PyTorch vectorizes over the other axes only where the last one is not the one summed.
        return logits.movedim(-1, 0).softmax(0).movedim(0, -1)
    return logits.softmax(-1)


def star_offsets(num_heads: int, num_points: int) -> Tensor:
    """Return the initial sampling offsets: one direction per head, one step per point.

    Args:
        num_heads: Attention heads.
        num_points: Sampling points per head.

    Returns:
        (num_heads, num_points, 2) in cells.
    """
    angle = torch.arange(num_heads, dtype=torch.float32) * (2.0 * math.pi / num_heads)
    direction = torch.stack((angle.cos(), angle.sin()), dim=-1)
    direction = direction / direction.abs().max(-1, keepdim=True).values
    return direction[:, None] * torch.arange(1, num_points + 1).view(1, num_points, 1)


def initialize_transformer(transformer: nn.Module) -> None:
    """Initialise all matrices with Xavier's method, then the sampling of the attention modules.

    Args:
        transformer: The module; changed in place.
    """
    for parameter in transformer.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    for module in transformer.modules():
        if isinstance(module, SamplingAttention):
            module.reset_sampling()
        output_proj = getattr(module, 'output_proj', None)
        if output_proj is not None:
            nn.init.zeros_(output_proj.bias)


def feed_forward(embed_dims: int, feedforward_channels: int, dropout: float) -> FFN:
    """Build the feed-forward part of a layer: two linear layers, ReLU and a residual connection.

    Args:
        embed_dims: Channels of input and output.
        feedforward_channels: Hidden channels.
        dropout: Dropout probability.

    Returns:
        mmcv's module.
    """
    return FFN(
        embed_dims=embed_dims,
        feedforward_channels=feedforward_channels,
        num_fcs=2,
        ffn_drop=dropout,
        act_cfg=dict(type='ReLU', inplace=True),
    )


class PreciseLinear(nn.Linear):
    """A linear layer that autocast leaves in the precision of its weights.

    For numbers that mean metres or angles: if its logit is bfloat16, a position on a grid of 100 m
    moves in steps of 9 cm.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            features: (..., in_features).

        Returns:
            (..., out_features) in the dtype of the weights.
        """
        with torch.autocast(device_type=features.device.type, enabled=False):
            return super().forward(features.to(self.weight.dtype))


class SamplingAttention(nn.Module):
    """Base class of deformable attention: sampling offsets, attention weights, value projection.

    Args:
        embed_dims: Channels of query, value and output.
        query_dims: Channels of the input of offsets and weights.
        num_heads: Attention heads.
        num_maps: Features that each head samples (levels, times frames in temporal attention).
        num_points: Samples per head and feature.

    Raises:
        ConfigError: ``embed_dims`` is not a multiple of ``num_heads``.
    """

    def __init__(
        self, embed_dims: int, query_dims: int, num_heads: int, num_maps: int, num_points: int
    ) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ConfigError(f'embed_dims {embed_dims} is not a multiple of num_heads {num_heads}')
        self.num_heads = num_heads
        self.num_maps = num_maps
        self.num_points = num_points
        samples = num_heads * num_maps * num_points
        self.sampling_offsets = nn.Linear(query_dims, samples * 2)
        self.attention_weights = nn.Linear(query_dims, samples)
        self.value_proj = nn.Linear(embed_dims, embed_dims)

    def reset_sampling(self) -> None:
        """Initialise the offsets as a star and the weights as equal, independent of the query."""
        offsets = star_offsets(self.num_heads, self.num_points)[:, None]
        offsets = offsets.expand(-1, self.num_maps, -1, -1)
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        nn.init.zeros_(self.value_proj.bias)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.reshape(-1))

    def project_value(self, value: Tensor) -> Tensor:
        """Project the value and split it into heads.

        Args:
            value: (B, S, embed_dims).

        Returns:
            (B, S, heads, channels).
        """
        return self.value_proj(value).unflatten(-1, (self.num_heads, -1))

    def predict_locations(self, query: Tensor, anchors: Tensor, sizes: Tensor) -> Tensor:
        """Predict where each query samples.

        Args:
            query: (B, Q, query_dims).
            anchors: What the offsets are added to, (B, Q, maps, points, 2) as (x, y) in [0, 1];
                maps and points may be 1.
            sizes: (maps, 2) or (1, 2), width and height of each sampled feature in cells.

        Returns:
            (B, Q, heads, maps, points, 2) as (x, y) in [0, 1], float32.
        """
        # Broadcasting over a last axis of 2 defeats vector instructions, so that of all samples of
        # a head is taken.
        shape = (self.num_maps, self.num_points, 2)
        offsets = self.sampling_offsets(query).float().unflatten(-1, (self.num_heads, -1))
        offsets = offsets / sizes[:, None].expand(shape).flatten()
        anchors = anchors.expand(-1, -1, *shape).flatten(2).unsqueeze(2)
        return (anchors + offsets).unflatten(-1, shape)


class DeformableAttention(SamplingAttention):
    """Deformable attention with a residual connection (Deformable DETR, Sec. 4.1).

    Args:
        embed_dims: Channels.
        num_heads: Attention heads.
        num_levels: Levels of the value pyramid.
        num_points: Samples per head and level.
        dropout: Dropout of the output, before the residual connection.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(embed_dims, embed_dims, num_heads, num_levels, num_points)
        self.output_proj = nn.Linear(embed_dims, embed_dims)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        query_pos: Tensor,
        reference_points: Tensor,
        spatial_shapes: SpatialShapes,
    ) -> Tensor:
        """Sample the value around the reference point of each query.

        Args:
            query: (B, Q, C).
            value: (B, S, C).
            query_pos: Positional part of the query, (B, Q, C).
            reference_points: (B, Q, 2) as (x, y) in [0, 1], the same on every level.
            spatial_shapes: Height and width of each level.

        Returns:
            (B, Q, C).
        """
        identity = query
        query = query + query_pos
        weights = softmax_over_points(
            self.attention_weights(query).unflatten(-1, (self.num_heads, -1))
        )
        sizes = level_sizes(spatial_shapes, query.device)
        locations = self.predict_locations(query, reference_points[:, :, None, None], sizes)
        output = deformable_attention(
            self.project_value(value),
            spatial_shapes,
            locations,
            weights.unflatten(-1, (self.num_maps, self.num_points)),
        )
        return identity + self.dropout(self.output_proj(output))


class MultiheadSelfAttention(nn.Module):
    """Self-attention between queries, with a residual connection.

    Args:
        embed_dims: Channels.
        num_heads: Attention heads.
        dropout: Dropout of the attention weights and of the output.
    """

    def __init__(self, embed_dims: int = 256, num_heads: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(embed_dims, num_heads, dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, query_pos: Tensor) -> Tensor:
        """Attend between queries.

        Args:
            query: (B, Q, C).
            query_pos: Positional part of the query, added for keys and queries, (B, Q, C).

        Returns:
            (B, Q, C).
        """
        positioned = query + query_pos
        output = self.attn(positioned, positioned, query, need_weights=False)[0]
        return query + self.dropout(output)
