"""The transformer parts that both detectors are made of."""

from __future__ import annotations

import math

import torch
from mmcv.cnn.bricks.transformer import FFN
from torch import Tensor, nn

from ..ops import deformable_attention
from ..ops.deformable_attention import SpatialShapes
from ..ops.pyramid import level_sizes

# Up to this many weights, a row is too short for vector instructions along it.
_SHORT_ROW = 16


def inverse_sigmoid(probability: Tensor, eps: float = 1e-5) -> Tensor:
    """Logit of a probability, finite at 0 and 1."""
    probability = probability.clamp(0, 1)
    return torch.log(probability.clamp(min=eps) / (1 - probability).clamp(min=eps))


def softmax_over_points(logits: Tensor) -> Tensor:
    """Softmax over the last axis, which is short: the samples of a head."""
    if logits.device.type == 'cpu' and logits.size(-1) <= _SHORT_ROW:
        # PyTorch vectorizes over the other axes only where the last one is not the one summed.
        return logits.movedim(-1, 0).softmax(0).movedim(0, -1)
    return logits.softmax(-1)


def star_offsets(num_heads: int, num_points: int) -> Tensor:
    """First sampling offsets: every head looks in its own direction, each point one step further.

    Returns:
        (num_heads, num_points, 2) in cells.
    """
    angle = torch.arange(num_heads, dtype=torch.float32) * (2.0 * math.pi / num_heads)
    direction = torch.stack((angle.cos(), angle.sin()), dim=-1)
    direction = direction / direction.abs().max(-1, keepdim=True).values
    return direction[:, None] * torch.arange(1, num_points + 1).view(1, num_points, 1)


def initialize_transformer(transformer: nn.Module) -> None:
    """Xavier-initialise all matrices, then let the attention modules set their own start."""
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
    """Two linear layers with a ReLU between and the input added, as in every layer here."""
    return FFN(
        embed_dims=embed_dims,
        feedforward_channels=feedforward_channels,
        num_fcs=2,
        ffn_drop=dropout,
        act_cfg=dict(type='ReLU', inplace=True),
    )


class SamplingAttention(nn.Module):
    """What all deformable attentions share: where to sample, with which weight, from which value.

    Args:
        embed_dims: Channels of query, value and output.
        query_dims: Channels that offsets and weights are predicted from.
        num_heads: Attention heads.
        num_maps: Feature maps (levels, times frames in temporal attention) each head samples.
        num_points: Samples per head and map.

    Raises:
        ValueError: ``embed_dims`` is not a multiple of ``num_heads``.
    """

    def __init__(
        self, embed_dims: int, query_dims: int, num_heads: int, num_maps: int, num_points: int
    ) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(f'embed_dims {embed_dims} is not a multiple of num_heads {num_heads}')
        self.num_heads = num_heads
        self.num_maps = num_maps
        self.num_points = num_points
        samples = num_heads * num_maps * num_points
        self.sampling_offsets = nn.Linear(query_dims, samples * 2)
        self.attention_weights = nn.Linear(query_dims, samples)
        self.value_proj = nn.Linear(embed_dims, embed_dims)

    def reset_sampling(self) -> None:
        """Start from a star of offsets and equal weights, whatever the query."""
        offsets = star_offsets(self.num_heads, self.num_points)[:, None]
        offsets = offsets.expand(-1, self.num_maps, -1, -1)
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        nn.init.zeros_(self.value_proj.bias)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.reshape(-1))

    def project_value(self, value: Tensor) -> Tensor:
        """(B, S, embed_dims) to (B, S, heads, channels)."""
        return self.value_proj(value).unflatten(-1, (self.num_heads, -1))

    def predict_locations(self, query: Tensor, anchors: Tensor, sizes: Tensor) -> Tensor:
        """Predict where each query samples.

        Args:
            query: (B, Q, query_dims).
            anchors: What the offsets are added to, (B, Q, maps, points, 2) as (x, y) in [0, 1];
                maps and points may be 1.
            sizes: (maps, 2) or (1, 2), width and height of each map in cells.

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
    """Deformable attention with the input added to its output.

    Args:
        embed_dims: Channels.
        num_heads: Attention heads.
        num_levels: Levels of the value pyramid.
        num_points: Samples per head and level.
        dropout: On the output, before the input is added.
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
        """Let each query sample around its reference point.

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
    """Self-attention between queries, with the input added to its output.

    Args:
        embed_dims: Channels.
        num_heads: Attention heads.
        dropout: On the attention weights and the output.
    """

    def __init__(self, embed_dims: int = 256, num_heads: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(embed_dims, num_heads, dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, query_pos: Tensor) -> Tensor:
        """Mix queries (B, Q, C), compared with their positions added; returns (B, Q, C)."""
        positioned = query + query_pos
        output = self.attn(positioned, positioned, query, need_weights=False)[0]
        return query + self.dropout(output)
