"""Bottlenecks: the part of a teacher's feature that generates the student's (paper, Sec. 4.1).

An encoder turns a teacher's feature z' into a code h' of H channels, a decoder turns the code into
an estimate of the student's feature z. A grid is encoded cell by cell with the same weights,
so a bottleneck works on features with any grid or none.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from mmengine.dist import broadcast
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..errors import ConfigError
from ..precision import full_products
from ..registry import MODELS

# Up to here the standard deviation is exp(x) exactly; beyond, its tangent, which does not overflow.
_LARGEST_LOG_DEVIATION = 10.0
# Training batches over which the use of codebook entries is counted.
_USE_WINDOW = 100
# Standard deviation of the noise on entries, as a share of that of the encoder's outputs.
_PLACEMENT_NOISE = 0.5


class BottleneckEvaluation(NamedTuple):
    r"""Losses and decoded feature of a bottleneck without noise; see :meth:`Bottleneck.evaluate`.

    Attributes:
        generation: Scalar float32, cross-modal generation loss (Eq. 7, first term).
        regularization: Scalar float32, the second term without its weight; zero for a bottleneck
            that has none.
        decoded: (B, C, \*grid), the estimate of the student's feature.
    """

    generation: Tensor
    regularization: Tensor
    decoded: Tensor


class Bottleneck(BaseModule):
    """Encoder and decoder of two layers each, with a code of few channels between them.

    The hidden layers are as wide as the feature on their side, which gives the parameters that the
    paper counts (Appendix E.4). Subclasses define the code.

    Args:
        in_channels: Channels C' of the teacher's feature.
        bottleneck_size: Channels H of the code.
        out_channels: Channels C of the student's feature.
        kernel_size: 1 encodes every cell by itself; 3 also reads the neighbouring cells in every
            layer, on two-dimensional grids only.
        regularization_weight: lambda of Algorithm 1. The paper does not state it; Eq. 7 has 1.
        reduction: How both losses combine channels: ``'sum'`` as in Algorithm 1, or ``'mean'``.
            Batch and cells are averaged either way.

    Raises:
        ConfigError: The code is wider than a feature, or a value is not allowed.
    """

    # Outputs of the encoder for each channel of the code.
    _outputs_per_channel = 1

    def __init__(
        self,
        in_channels: int,
        bottleneck_size: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        regularization_weight: float = 1.0,
        reduction: str = 'sum',
    ) -> None:
        super().__init__()
        if not 1 <= bottleneck_size <= min(in_channels, out_channels):
            raise ConfigError(
                f"a bottleneck of {bottleneck_size} channels does not fit between the teacher's "
                f"{in_channels} and the student's {out_channels}: choose bottleneck_size from 1 "
                f'to {min(in_channels, out_channels)}.'
            )
        if kernel_size not in (1, 3):
            raise ConfigError(f'kernel_size is {kernel_size}; it must be 1 or 3.')
        if reduction not in ('sum', 'mean'):
            raise ConfigError(f"reduction is {reduction!r}; it must be 'sum' or 'mean'.")
        self.in_channels = in_channels
        self.bottleneck_size = bottleneck_size
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.regularization_weight = regularization_weight
        self.reduction = reduction
        self.encoder = _MLP(
            in_channels, in_channels, self._outputs_per_channel * bottleneck_size, kernel_size
        )
        self.decoder = _MLP(bottleneck_size, out_channels, out_channels, kernel_size)

    def init_weights(self) -> None:
        """Reset all weights by the layers' own rules, from torch's global generator."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d, nn.Embedding)):
                module.reset_parameters()

    @abstractmethod
    def encode(
        self,
        teacher_feature: Tensor,
        sample: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""Turn a teacher's feature into its code.

        Args:
            teacher_feature: (B, C', \*grid), any floating dtype.
            sample: Sample the code from its distribution instead of taking the mean.
            generator: Random generator, on the feature's device; None for the global one.

        Returns:
            (B, H, \*grid), float32.

        Raises:
            ConfigError: The feature does not fit, or there is no distribution to sample from.
        """

    @abstractmethod
    def _encode_for_training(
        self, teacher_feature: Tensor, sample: bool, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        r"""Return the code and the regularization of each element, (B, H, \*grid), or None."""

    def decode(self, code: Tensor) -> Tensor:
        r"""Turn a code into an estimate of the student's feature.

        Args:
            code: (B, H, \*grid).

        Returns:
            (B, C, \*grid).

        Raises:
            ConfigError: The code has another number of channels, or no grid where one is needed.
        """
        _require_channels(code, self.bottleneck_size, 'the code')
        decoded: Tensor = self.decoder(code)
        return decoded

    def forward(
        self,
        teacher_feature: Tensor,
        student_feature: Tensor,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        r"""Compute the losses of one batch (Algorithm 1, lines 6 to 10).

        Args:
            teacher_feature: z', (B, C', \*grid).
            student_feature: z, of the student trained without distillation, (B, C, \*grid).
            generator: Random generator of the noise, on the features' device; None for the global
                one.

        Returns:
            ``loss_generation`` and, if the bottleneck has one, ``loss_regularization`` times its
            weight; float32 scalars.

        Raises:
            ConfigError: The features do not fit the bottleneck or each other.
        """
        self._require_pair(teacher_feature, student_feature)
        code, regularization = self._encode_for_training(teacher_feature, True, generator)
        losses = {'loss_generation': self._generation(self.decode(code), student_feature)}
        if regularization is not None:
            losses['loss_regularization'] = self.regularization_weight * self._reduce(
                regularization
            )
        return losses

    def evaluate(self, teacher_feature: Tensor, student_feature: Tensor) -> BottleneckEvaluation:
        r"""Compute the same losses without weight and noise, and the decoded feature.

        Args:
            teacher_feature: (B, C', \*grid).
            student_feature: (B, C, \*grid).

        Returns:
            Both losses (Eq. 7), float32 scalars, and the decoded feature, (B, C, \*grid).

        Raises:
            ConfigError: The features do not fit the bottleneck or each other.
        """
        self._require_pair(teacher_feature, student_feature)
        code, regularization = self._encode_for_training(teacher_feature, False, None)
        decoded = self.decode(code)
        generation = self._generation(decoded, student_feature)
        if regularization is None:
            return BottleneckEvaluation(generation, torch.zeros_like(generation), decoded)
        return BottleneckEvaluation(generation, self._reduce(regularization), decoded)

    def _generation(self, decoded: Tensor, student_feature: Tensor) -> Tensor:
        error = F.mse_loss(decoded.float(), student_feature.float())
        return error * self.out_channels if self.reduction == 'sum' else error

    def _reduce(self, elements: Tensor) -> Tensor:
        mean = elements.mean()
        return mean * self.bottleneck_size if self.reduction == 'sum' else mean

    def _require_pair(self, teacher_feature: Tensor, student_feature: Tensor) -> None:
        _require_channels(teacher_feature, self.in_channels, "the teacher's feature")
        _require_channels(student_feature, self.out_channels, "the student's feature")
        shapes = tuple(teacher_feature.shape), tuple(student_feature.shape)
        if shapes[0][:1] + shapes[0][2:] != shapes[1][:1] + shapes[1][2:]:
            raise ConfigError(
                f"the teacher's feature is {shapes[0]} and the student's {shapes[1]}: batch and "
                'grid, all but the second number, must be equal. Choose taps on one grid, or '
                'resample one feature to the grid of the other.'
            )

    def _refuse_to_sample(self, sample: bool) -> None:
        if sample:
            raise ConfigError(
                f'{type(self).__name__} has one code for a feature, no distribution to sample '
                "from: distil its code with target='mean', or use VariationalBottleneck."
            )


@MODELS.register_module()
class VariationalBottleneck(Bottleneck):
    """DVIB: a Gaussian code, kept close to the unit Gaussian (Eq. 7; Alemi et al. 2016).

    The encoder outputs mean and log-variance of every channel. Training decodes a sample, by
    reparameterization; the regularization is KL(N(mean, variance) || N(0, 1)) in closed form. Both
    are computed in float32 whatever precision the layers run in.

    The arguments are those of :class:`Bottleneck`.
    """

    _outputs_per_channel = 2

    def distribution(self, teacher_feature: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return the code's distribution.

        Args:
            teacher_feature: (B, C', \*grid).

        Returns:
            Mean and log-variance, both (B, H, \*grid), float32.

        Raises:
            ConfigError: The feature does not fit.
        """
        _require_channels(teacher_feature, self.in_channels, "the teacher's feature")
        mean, log_variance = self.encoder(teacher_feature).float().chunk(2, dim=1)
        return mean, log_variance

    def encode(
        self,
        teacher_feature: Tensor,
        sample: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """See :meth:`Bottleneck.encode`."""
        mean, log_variance = self.distribution(teacher_feature)
        return _reparameterize(mean, log_variance, generator) if sample else mean

    def _encode_for_training(
        self, teacher_feature: Tensor, sample: bool, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        mean, log_variance = self.distribution(teacher_feature)
        # Elementwise products of float32 tensors, which autocast does not round.
        divergence = 0.5 * (mean.square() + _deviation(log_variance).square() - 1.0 - log_variance)
        return (_reparameterize(mean, log_variance, generator) if sample else mean), divergence


@MODELS.register_module()
class SelfAttentionBottleneck(Bottleneck):
    """Multi-head self-attention between encoder and decoder (Sec. 5.2.2; Srinivas et al. 2021).

    As in a bottleneck transformer the attention works where the channels are fewest: the tokens are
    the codes of the cells, and the attention is a residual. It uses no positions, so grids of any
    size share one set of weights. The only loss is generation: only the width of the code limits
    the information.

    Queries attend in chunks that are recomputed in the backward pass, so memory grows with
    ``query_chunk`` times the number of tokens instead of its square.

    Args:
        in_channels: See :class:`Bottleneck`.
        bottleneck_size: See :class:`Bottleneck`.
        out_channels: See :class:`Bottleneck`.
        kernel_size: See :class:`Bottleneck`.
        reduction: See :class:`Bottleneck`.
        num_heads: Attention heads, each of H / (``channel_groups`` x ``num_heads``) channels,
            rounded up.
        channel_groups: Tokens that each cell's code is split into, of equal size. Use 1 for
            grids. A feature without a grid needs at least 2, which attend to each other.
        query_chunk: Largest number of queries that attend at a time.

    Raises:
        ConfigError: The code does not split into that many groups, or a value is not positive.
            Encoding a feature of a single token raises it too: a token that attends only to itself
            gets the same value whatever queries and keys are.
    """

    def __init__(
        self,
        in_channels: int,
        bottleneck_size: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        reduction: str = 'sum',
        num_heads: int = 4,
        channel_groups: int = 1,
        query_chunk: int = 512,
    ) -> None:
        super().__init__(
            in_channels,
            bottleneck_size,
            out_channels,
            kernel_size=kernel_size,
            reduction=reduction,
        )
        if min(num_heads, channel_groups, query_chunk) < 1:
            raise ConfigError('num_heads, channel_groups and query_chunk must be at least 1.')
        if bottleneck_size % channel_groups:
            raise ConfigError(
                f'a code of {bottleneck_size} channels does not split into {channel_groups} equal '
                'groups; choose channel_groups among its divisors.'
            )
        self.channel_groups = channel_groups
        self.attention = _SelfAttention(bottleneck_size // channel_groups, num_heads, query_chunk)

    def encode(
        self,
        teacher_feature: Tensor,
        sample: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """See :meth:`Bottleneck.encode`; there is nothing to sample."""
        self._refuse_to_sample(sample)
        _require_channels(teacher_feature, self.in_channels, "the teacher's feature")
        code = self.encoder(teacher_feature)
        batch, channels = code.shape[:2]
        width = channels // self.channel_groups
        # (B, groups, width, cells) to (B, cells x groups, width), and back.
        by_cell = code.reshape(batch, self.channel_groups, width, -1).permute(0, 3, 1, 2)
        tokens = by_cell.flatten(1, 2)
        if tokens.size(1) < 2:
            raise ConfigError(
                f'SelfAttentionBottleneck: a feature of shape {tuple(teacher_feature.shape)} makes '
                f'a single token, which has nothing to attend to. Set channel_groups to 2 or more, '
                f'a divisor of bottleneck_size {self.bottleneck_size}.'
            )
        attended: Tensor = tokens + self.attention(tokens)
        return attended.view(by_cell.shape).permute(0, 2, 3, 1).reshape(code.shape).float()

    def _encode_for_training(
        self, teacher_feature: Tensor, sample: bool, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        return self.encode(teacher_feature), None


@MODELS.register_module()
class VectorQuantizedBottleneck(Bottleneck):
    """VQ-VAE that generates the student's feature (Sec. 5.2.2; van den Oord et al. 2017).

    The code of a cell is the codebook entry nearest to the encoder's output; the gradient is passed
    straight through. The regularization is the cited work's codebook loss plus ``commitment`` times
    its commitment loss, computed in float32.

    The first training batch initialises the codebook with outputs of the encoder; entries far from
    all of them would never be chosen, and never learn. Training also reports ``used_codes``, the
    share of entries chosen in the last 100 batches.

    Args:
        in_channels: See :class:`Bottleneck`.
        bottleneck_size: See :class:`Bottleneck`.
        out_channels: See :class:`Bottleneck`.
        kernel_size: See :class:`Bottleneck`.
        regularization_weight: See :class:`Bottleneck`.
        reduction: See :class:`Bottleneck`.
        codebook_size: Entries of the codebook (the cited work: 512).
        commitment: Weight of the commitment loss (the cited work's beta).

    Raises:
        ConfigError: The codebook is empty.
    """

    def __init__(
        self,
        in_channels: int,
        bottleneck_size: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        regularization_weight: float = 1.0,
        reduction: str = 'sum',
        codebook_size: int = 512,
        commitment: float = 0.25,
    ) -> None:
        super().__init__(
            in_channels,
            bottleneck_size,
            out_channels,
            kernel_size=kernel_size,
            regularization_weight=regularization_weight,
            reduction=reduction,
        )
        if codebook_size < 1:
            raise ConfigError(f'codebook_size is {codebook_size}; it must be at least 1.')
        self.commitment = commitment
        self.codebook = nn.Embedding(codebook_size, bottleneck_size)
        self.register_buffer('codebook_is_placed', torch.tensor(False))
        # Training batches so far, and the one in which each entry was last chosen.
        self.register_buffer('_batches', torch.zeros((), dtype=torch.long), persistent=False)
        never = torch.full((codebook_size,), -_USE_WINDOW, dtype=torch.long)
        self.register_buffer('_last_use', never, persistent=False)

    def init_weights(self) -> None:
        """See :meth:`Bottleneck.init_weights`; the next training batch initialises the codebook."""
        super().init_weights()
        self.codebook_is_placed.fill_(False)

    def forward(
        self,
        teacher_feature: Tensor,
        student_feature: Tensor,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """See :meth:`Bottleneck.forward`; ``used_codes`` is added, from 0 to 1."""
        losses = super().forward(teacher_feature, student_feature, generator)
        used = self._batches - self._last_use < _USE_WINDOW
        return {**losses, 'used_codes': used.float().mean()}

    def encode(
        self,
        teacher_feature: Tensor,
        sample: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """See :meth:`Bottleneck.encode`; there is nothing to sample."""
        self._refuse_to_sample(sample)
        return self._quantize(teacher_feature)[1]

    def _encode_for_training(
        self, teacher_feature: Tensor, sample: bool, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        if sample and not self.codebook_is_placed:
            self._place_codebook(teacher_feature, generator)
        encoded, nearest, index = self._quantize(teacher_feature)
        if sample:
            self._batches += 1
            self._last_use[index.unique()] = self._batches
        # The value of the entry, the gradient of the encoder's output.
        code = encoded + (nearest - encoded).detach()
        regularization = (nearest - encoded.detach()).square() + self.commitment * (
            encoded - nearest.detach()
        ).square()
        return code, regularization

    @torch.no_grad()
    def _place_codebook(self, teacher_feature: Tensor, generator: torch.Generator | None) -> None:
        """Set the entries to the encoder's outputs for this batch, plus noise."""
        _require_channels(teacher_feature, self.in_channels, "the teacher's feature")
        outputs = self.encoder(teacher_feature).float().movedim(1, -1)
        outputs = outputs.reshape(-1, self.bottleneck_size)
        entries = self.codebook.weight
        device = outputs.device
        index = torch.randint(len(outputs), entries.shape[:1], generator=generator, device=device)
        noise = torch.randn(entries.shape, generator=generator, device=device)
        spread = outputs.std(0, unbiased=False)
        entries.copy_(outputs[index] + _PLACEMENT_NOISE * spread * noise)
        # Each process has its own batch; all use the codebook of the first.
        broadcast(entries.data, src=0)
        self.codebook_is_placed.fill_(True)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Checkpoints without this flag hold a trained codebook.
        state_dict.setdefault(f'{prefix}codebook_is_placed', torch.tensor(True))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _quantize(self, teacher_feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r"""Return the encoder's output, its nearest entries, (B, H, \*grid), and their indices."""
        _require_channels(teacher_feature, self.in_channels, "the teacher's feature")
        encoded = self.encoder(teacher_feature).float()
        with torch.no_grad(), torch.autocast(encoded.device.type, enabled=False), full_products():
            vectors = encoded.movedim(1, -1).reshape(-1, self.bottleneck_size)
            entries = self.codebook.weight.float()
            # Squared distance less the vector's own square, which is the same for all entries.
            distance = torch.addmm(entries.square().sum(1), vectors, entries.t(), alpha=-2)
            index = distance.argmin(1).view(encoded.shape[:1] + encoded.shape[2:])
        return encoded, self.codebook(index).movedim(-1, 1).float(), index


class _MLP(nn.Sequential):
    r"""Two layers with a ReLU between them, applied at every cell of a grid.

    With kernel size 1 the layers are linear and read (B, \*grid, C), a view. For tokens that were
    transposed to (B, C, \*grid) this restores their layout without a copy.
    """

    def __init__(self, in_channels: int, hidden: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(
            _layer(in_channels, hidden, kernel_size),
            nn.ReLU(inplace=True),
            _layer(hidden, out_channels, kernel_size),
        )
        self.kernel_size = kernel_size

    def forward(self, feature: Tensor) -> Tensor:
        # A teacher's feature may be half precision; the weights are float32.
        feature = feature.to(next(self.parameters()).dtype)
        if self.kernel_size == 1:
            return self._apply_layers(feature.movedim(1, -1)).movedim(-1, 1)
        if feature.dim() != 4:
            raise ConfigError(
                f'kernel_size=3 needs a feature with a two-dimensional grid, (B, C, H, W), and '
                f'this one is {tuple(feature.shape)}: use kernel_size=1.'
            )
        return self._apply_layers(feature)

    def _apply_layers(self, feature: Tensor) -> Tensor:
        for layer in self:
            feature = layer(feature)
        return feature


def _layer(in_channels: int, out_channels: int, kernel_size: int) -> nn.Module:
    if kernel_size == 1:
        return nn.Linear(in_channels, out_channels)
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)


class _SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017) in chunks, which never holds all scores."""

    def __init__(self, channels: int, num_heads: int, query_chunk: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_chunk = query_chunk
        width = num_heads * -(-channels // num_heads)
        self.query_key_value = nn.Linear(channels, 3 * width)
        self.output = nn.Linear(width, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the attended tokens; both are (B, tokens, channels)."""
        projected = self.query_key_value(tokens).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        if query.size(2) <= self.query_chunk:
            attended = F.scaled_dot_product_attention(query, key, value)
        else:
            attended = torch.cat(
                [
                    checkpoint(
                        F.scaled_dot_product_attention,
                        chunk,
                        key,
                        value,
                        use_reentrant=False,
                        preserve_rng_state=False,
                    )
                    for chunk in query.split(self.query_chunk, dim=2)
                ],
                dim=2,
            )
        output: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return output


def _deviation(log_variance: Tensor) -> Tensor:
    """Return the standard deviation, with finite values and gradients for any log-variance."""
    log_deviation = 0.5 * log_variance
    limited = log_deviation.clamp(max=_LARGEST_LOG_DEVIATION)
    return limited.exp() * (1.0 + (log_deviation - limited))


def _reparameterize(
    mean: Tensor, log_variance: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Sample N(mean, variance), differentiably (Kingma and Welling 2014)."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=torch.float32)
    return mean + _deviation(log_variance) * noise


def _require_channels(feature: Tensor, channels: int, name: str) -> None:
    if feature.dim() < 2 or feature.size(1) != channels:
        raise ConfigError(
            f'{name} is {tuple(feature.shape)}, and the bottleneck was made for {channels} '
            f'channels, (B, {channels}) or (B, {channels}, *grid). Check the tap and its layout, '
            'or in_channels, bottleneck_size and out_channels of the bottleneck.'
        )
