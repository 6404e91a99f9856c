"""Bottlenecks against closed forms, other libraries and literal transcriptions of the paper."""

from __future__ import annotations

import math

import pytest
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from ciba_bev.distillation.bottlenecks import (
    SelfAttentionBottleneck,
    VariationalBottleneck,
    VectorQuantizedBottleneck,
)
from ciba_bev.errors import ConfigError
from ciba_bev.registry import MODELS

BOTTLENECKS = [VariationalBottleneck, SelfAttentionBottleneck, VectorQuantizedBottleneck]


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def build(kind: type, *sizes: int, **arguments) -> nn.Module:
    if kind is SelfAttentionBottleneck:
        # So that features without a grid have something to attend to.
        arguments.setdefault('channel_groups', 2)
    torch.manual_seed(0)
    bottleneck = kind(*(sizes or (6, 4, 5)), **arguments)
    bottleneck.init_weights()
    return bottleneck


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operator returned."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in tree_flatten(result)[0]:
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.numel())
        return result


def test_parameters_as_counted_in_the_paper():
    # Appendix E.4: 2.1M for 1024 channels and H = 8.
    parameters = VariationalBottleneck(1024, 8, 1024).parameters()
    assert sum(parameter.numel() for parameter in parameters) == 2_124_816


@pytest.mark.parametrize('shape', [(3,), (3, 4), (3, 2, 4)])
@pytest.mark.parametrize('reduction', ['sum', 'mean'])
def test_divergence_is_torch_distributions(shape, reduction):
    bottleneck = build(VariationalBottleneck, reduction=reduction)
    teacher, student = (random(shape[0], c, *shape[1:], scale=5.0) for c in (6, 5))
    mean, log_variance = bottleneck.distribution(teacher)
    divergence = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))
    expected = divergence.sum(1).mean() if reduction == 'sum' else divergence.mean()
    evaluation = bottleneck.evaluate(teacher, student)
    torch.testing.assert_close(evaluation.regularization, expected)
    error = F.mse_loss(evaluation.decoded, student, reduction='none')
    expected = error.sum(1).mean() if reduction == 'sum' else error.mean()
    torch.testing.assert_close(evaluation.generation, expected)


def test_losses_are_algorithm_1():
    """Lines 5 to 10, number by number, with weights read out and layers written as loops."""
    weight_of_regularization = 0.7
    bottleneck = build(
        VariationalBottleneck, 3, 2, 3, regularization_weight=weight_of_regularization
    )
    teacher, student = random(4, 3, seed=1), random(4, 3, seed=2)
    noise = torch.randn(4, 2, generator=torch.Generator().manual_seed(5)).tolist()
    losses = bottleneck(teacher, student, torch.Generator().manual_seed(5))

    def linear(layer, vector):
        rows, bias = layer.weight.tolist(), layer.bias.tolist()
        return [sum(w * v for w, v in zip(row, vector)) + b for row, b in zip(rows, bias)]

    def two_layers(network, vector):
        return linear(network[2], [max(0.0, v) for v in linear(network[0], vector)])

    generation, regularization = 0.0, 0.0
    for i in range(4):
        encoded = two_layers(bottleneck.encoder, teacher[i].tolist())
        mu, sigma_squared = encoded[:2], [math.exp(v) for v in encoded[2:]]
        code = [m + math.sqrt(s) * n for m, s, n in zip(mu, sigma_squared, noise[i])]
        decoded = two_layers(bottleneck.decoder, code)
        generation += sum((d - z) ** 2 for d, z in zip(decoded, student[i].tolist()))
        regularization += -0.5 * sum(1 + math.log(s) - m**2 - s for m, s in zip(mu, sigma_squared))
    assert losses['loss_generation'].item() == pytest.approx(generation / 4, rel=1e-5)
    expected = weight_of_regularization * regularization / 4
    assert losses['loss_regularization'].item() == pytest.approx(expected, rel=1e-5)


def test_the_sample_has_the_distribution_it_was_drawn_from():
    bottleneck = build(VariationalBottleneck)
    teacher = random(1, 6, scale=3.0)
    mean, log_variance = bottleneck.distribution(teacher)
    samples = bottleneck.encode(
        teacher.expand(20000, -1), sample=True, generator=torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(samples.mean(0), mean[0], atol=0.05, rtol=0)
    torch.testing.assert_close(samples.var(0), log_variance[0].exp(), atol=0, rtol=0.05)
    torch.testing.assert_close(bottleneck.encode(teacher), mean)


@pytest.mark.parametrize('kind', BOTTLENECKS)
def test_a_generator_decides_all_noise(kind):
    bottleneck = build(kind)
    teacher, student = random(3, 6, 2, 2), random(3, 5, 2, 2)

    def losses(seed):
        return bottleneck(teacher, student, torch.Generator().manual_seed(seed))

    state = torch.get_rng_state()
    assert losses(1) == losses(1)
    assert torch.equal(torch.get_rng_state(), state)
    if kind is VariationalBottleneck:
        assert losses(1)['loss_generation'] != losses(2)['loss_generation']
    else:
        assert losses(1) == losses(2)


@pytest.mark.parametrize('kind', BOTTLENECKS)
@pytest.mark.parametrize('kernel_size', [1, 3])
def test_initial_weights_follow_from_the_seed(kind, kernel_size):
    weights = []
    for _ in range(2):
        bottleneck = kind(6, 4, 5, kernel_size=kernel_size)
        before = {name: value.clone() for name, value in bottleneck.named_parameters()}
        torch.manual_seed(0)
        bottleneck.init_weights()
        weights.append(dict(bottleneck.named_parameters()))
        assert not any(torch.equal(before[name], value) for name, value in weights[-1].items())
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


@pytest.mark.parametrize('kind', [VariationalBottleneck, VectorQuantizedBottleneck])
@pytest.mark.parametrize('grid', [(5,), (2, 3), (2, 3, 2)])
def test_a_grid_is_encoded_cell_by_cell(kind, grid):
    bottleneck = build(kind)
    teacher, student = random(2, 6, *grid, seed=1), random(2, 5, *grid, seed=2)
    cells = [feature.movedim(1, -1).flatten(0, -2) for feature in (teacher, student)]
    on_grid, as_vectors = bottleneck.evaluate(teacher, student), bottleneck.evaluate(*cells)
    torch.testing.assert_close(on_grid.generation, as_vectors.generation)
    torch.testing.assert_close(on_grid.regularization, as_vectors.regularization)
    torch.testing.assert_close(on_grid.decoded.movedim(1, -1).flatten(0, -2), as_vectors.decoded)
    code = bottleneck.encode(teacher)
    assert code.shape == (2, 4, *grid)
    torch.testing.assert_close(code.movedim(1, -1).flatten(0, -2), bottleneck.encode(cells[0]))


@pytest.mark.parametrize('kind', BOTTLENECKS)
def test_memory_layout_changes_nothing(kind):
    bottleneck = build(kind)
    teacher, student = random(2, 6, 3, 4), random(2, 5, 3, 4)
    tokens = [x.flatten(2).transpose(1, 2).contiguous() for x in (teacher, student)]
    same = [x.transpose(1, 2).unflatten(2, (3, 4)) for x in tokens]
    torch.testing.assert_close(bottleneck.evaluate(teacher, student), bottleneck.evaluate(*same))


@pytest.mark.parametrize('kind', BOTTLENECKS)
def test_kernel_size_3_is_two_padded_convolutions(kind):
    bottleneck = build(kind, kernel_size=3)
    code = random(2, 4, 3, 5)
    first, _, second = bottleneck.decoder
    hidden = F.conv2d(code, first.weight, first.bias, padding=1).relu()
    expected = F.conv2d(hidden, second.weight, second.bias, padding=1)
    torch.testing.assert_close(bottleneck.decode(code), expected)
    assert bottleneck.encode(random(2, 6, 3, 5)).shape == (2, 4, 3, 5)
    for shape in ((2, 6), (2, 6, 4), (2, 6, 4, 4, 4)):
        with pytest.raises(ConfigError, match='kernel_size=1'):
            bottleneck.encode(random(*shape))


@pytest.mark.parametrize('kind', BOTTLENECKS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_mixed_precision(kind, dtype):
    """Under autocast the layers round; the losses must not round any further."""
    bottleneck = build(kind, 32, 8, 32)
    teacher, student = (random(4, 32, 3, 3, seed=s, scale=3.0).to(dtype) for s in (1, 2))
    exact = bottleneck.evaluate(teacher, student)
    assert exact.generation.dtype == exact.regularization.dtype == torch.float32
    with torch.autocast('cpu', torch.bfloat16):
        code = bottleneck.encode(teacher)
        evaluation = bottleneck.evaluate(teacher, student)
        losses = bottleneck(teacher, student, torch.Generator().manual_seed(0))
        if kind is VariationalBottleneck:
            mean, log_variance = bottleneck.distribution(teacher)
    assert evaluation.decoded.dtype == torch.bfloat16
    assert (
        code.dtype
        == evaluation.generation.dtype
        == evaluation.regularization.dtype
        == torch.float32
    )
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    error = F.mse_loss(evaluation.decoded.float(), student.float(), reduction='none')
    torch.testing.assert_close(evaluation.generation, error.sum(1).mean())
    if kind is VariationalBottleneck:
        divergence = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))
        torch.testing.assert_close(evaluation.regularization, divergence.sum(1).mean())
        torch.testing.assert_close(
            evaluation.regularization, exact.regularization, rtol=0.02, atol=0
        )


@pytest.mark.parametrize('kind', BOTTLENECKS)
@pytest.mark.parametrize('scale', [0.0, 1e5])
def test_gradients_stay_finite(kind, scale):
    bottleneck = build(kind, 16, 4, 16)
    losses = bottleneck(random(4, 16, scale=scale), random(4, 16, scale=scale))
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    for name, parameter in bottleneck.named_parameters():
        assert parameter.grad.isfinite().all(), name


def test_attention_is_torchs_module():
    bottleneck = build(SelfAttentionBottleneck, 6, 4, 5, num_heads=2, channel_groups=1)
    reference = nn.MultiheadAttention(4, 2, batch_first=True)
    attention = bottleneck.attention
    reference.load_state_dict(
        {
            'in_proj_weight': attention.query_key_value.weight,
            'in_proj_bias': attention.query_key_value.bias,
            'out_proj.weight': attention.output.weight,
            'out_proj.bias': attention.output.bias,
        }
    )
    teacher = random(2, 6, 3, 5, scale=3.0)
    tokens = bottleneck.encoder(teacher).flatten(2).transpose(1, 2)
    expected = tokens + reference(tokens, tokens, tokens)[0]
    code = bottleneck.encode(teacher).flatten(2).transpose(1, 2)
    torch.testing.assert_close(code, expected)
    # And without a grid, over groups of channels.
    bottleneck = build(SelfAttentionBottleneck, 6, 4, 5, num_heads=1, channel_groups=2)
    attention = bottleneck.attention
    reference = nn.MultiheadAttention(2, 1, batch_first=True)
    reference.in_proj_weight.data = attention.query_key_value.weight.data
    reference.in_proj_bias.data = attention.query_key_value.bias.data
    reference.out_proj.weight.data = attention.output.weight.data
    reference.out_proj.bias.data = attention.output.bias.data
    teacher = random(3, 6)
    tokens = bottleneck.encoder(teacher).view(3, 2, 2)
    expected = tokens + reference(tokens, tokens, tokens)[0]
    torch.testing.assert_close(bottleneck.encode(teacher).view(3, 2, 2), expected)


def test_a_single_token_is_refused():
    """It would attend to itself, whatever queries and keys say."""
    bottleneck = build(SelfAttentionBottleneck, channel_groups=1)
    for teacher in (random(3, 6), random(3, 6, 1, 1)):
        with pytest.raises(ConfigError, match=r'single token.*channel_groups to 2 or more.*size 4'):
            bottleneck.encode(teacher)
    assert bottleneck.encode(random(3, 6, 1, 2)).shape == (3, 4, 1, 2)


@pytest.mark.parametrize('shape', [(3,), (3, 2, 2)])
def test_queries_and_keys_matter(shape):
    bottleneck = build(SelfAttentionBottleneck, num_heads=1)
    teacher = random(shape[0], 6, *shape[1:], scale=3.0)
    before = bottleneck.encode(teacher)
    with torch.no_grad():
        # The values, the last third of the rows, stay.
        rows = bottleneck.attention.query_key_value.weight
        rows[: 2 * len(rows) // 3].normal_(0, 3, generator=torch.Generator().manual_seed(1))
    assert (bottleneck.encode(teacher) - before).abs().max() > 0.01


def test_attention_in_chunks_is_attention():
    whole = build(SelfAttentionBottleneck, query_chunk=100, channel_groups=1)
    chunked = build(SelfAttentionBottleneck, query_chunk=7, channel_groups=1)
    teacher, student = random(2, 6, 5, 8), random(2, 5, 5, 8)
    values = []
    for bottleneck in (whole, chunked):
        loss = bottleneck(teacher, student)['loss_generation']
        loss.backward()
        values.append([loss.detach()] + [p.grad for p in bottleneck.parameters()])
    torch.testing.assert_close(values[0], values[1])


def test_attention_never_holds_all_scores():
    sdpa = pytest.importorskip('torch.nn.attention')
    side, chunk = 32, 64
    bottleneck = build(
        SelfAttentionBottleneck, 8, 2, 8, num_heads=1, channel_groups=1, query_chunk=chunk
    )
    teacher, student = random(1, 8, side, side), random(1, 8, side, side)
    # Fused kernels would hide their insides; this one is made of operators that can be watched.
    with sdpa.sdpa_kernel(sdpa.SDPBackend.MATH), LargestTensor() as largest:
        bottleneck(teacher, student)['loss_generation'].backward()
    assert largest.elements == chunk * side**2
    assert largest.elements < side**4 // 10


def test_attention_on_a_bev_grid_fits_in_memory():
    bottleneck = build(SelfAttentionBottleneck, 256, 4, 256, channel_groups=1)
    side = 64
    teacher, student = random(1, 256, side, side), random(1, 256, side, side)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.append(x.numel()) or x, lambda x: x
    ), LargestTensor() as largest:
        bottleneck(teacher, student)['loss_generation'].backward()
    # A matrix of scores has 4096 numbers a cell and head; the features themselves have 256.
    assert largest.elements <= 2048 * side**2
    assert sum(kept) < 3600 * side**2


def test_attention_has_no_regularization():
    bottleneck = build(SelfAttentionBottleneck)
    teacher, student = random(2, 6, 3, 3), random(2, 5, 3, 3)
    assert set(bottleneck(teacher, student)) == {'loss_generation'}
    assert bottleneck.evaluate(teacher, student).regularization == 0


def test_quantization_takes_the_nearest_entry():
    bottleneck = build(VectorQuantizedBottleneck, codebook_size=20)
    teacher = random(2, 6, 3, 4, scale=3.0)
    with torch.no_grad():
        encoded, code = bottleneck.encoder(teacher), bottleneck.encode(teacher)
    entries = bottleneck.codebook.weight.detach()
    for b in range(2):
        for y in range(3):
            for x in range(4):
                distances = [float((encoded[b, :, y, x] - e).square().sum()) for e in entries]
                expected = entries[distances.index(min(distances))]
                torch.testing.assert_close(code[b, :, y, x], expected)


def test_quantization_compares_in_float32():
    bottleneck = build(VectorQuantizedBottleneck, 32, 8, 32)
    teacher = random(200, 32, scale=5.0)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        encoded, code = bottleneck.encoder(teacher), bottleneck.encode(teacher)
    entries = bottleneck.codebook.weight.detach()
    index = torch.cdist(encoded.double(), entries.double()).argmin(1)
    assert torch.equal(code, entries[index])


def test_quantization_is_never_in_tf32(monkeypatch):
    """tools/train.py allows TF32 for products, which would choose other entries on a GPU."""
    precisions = []

    def addmm(*arguments, **options):
        precisions.append(torch.get_float32_matmul_precision())
        return product(*arguments, **options)

    product = torch.addmm
    monkeypatch.setattr(torch, 'addmm', addmm)
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('high')
    try:
        build(VectorQuantizedBottleneck, 32, 8, 32).encode(random(5, 32))
        assert torch.get_float32_matmul_precision() == 'high'
    finally:
        torch.set_float32_matmul_precision(allowed)
    assert precisions == ['highest']


@pytest.mark.parametrize('offset', [0.0, 50.0])
def test_the_codebook_starts_where_the_encoder_puts_out(offset):
    """Wherever that is: most entries are the nearest to some output, hardly one is out of reach."""
    bottleneck = build(VectorQuantizedBottleneck, 16, 8, 16, codebook_size=64)
    with torch.no_grad():
        bottleneck.encoder[-1].bias += offset
    teacher, student = random(512, 16, seed=1), random(512, 16, seed=2)
    assert not bottleneck.codebook_is_placed
    losses = bottleneck(teacher, student, torch.Generator().manual_seed(3))
    entries, outputs = bottleneck.codebook.weight.detach(), bottleneck.encoder(teacher).detach()
    torch.testing.assert_close(entries.mean(0), outputs.mean(0), rtol=0, atol=0.1)
    torch.testing.assert_close(
        entries.std(0), (1 + 0.5**2) ** 0.5 * outputs.std(0), rtol=0.3, atol=0
    )
    chosen = torch.cdist(outputs, entries).argmin(1).unique()
    assert losses['used_codes'] == len(chosen) / 64
    assert losses['used_codes'] > 0.8
    # Placed once: the second batch leaves it, and so does measuring or loading.
    bottleneck(random(512, 16, seed=4), student, torch.Generator().manual_seed(4))
    bottleneck.evaluate(teacher, student)
    assert torch.equal(bottleneck.codebook.weight, entries)
    loaded = build(VectorQuantizedBottleneck, 16, 8, 16, codebook_size=64)
    loaded.load_state_dict(bottleneck.state_dict())
    loaded(teacher, student, torch.Generator().manual_seed(5))
    assert torch.equal(loaded.codebook.weight, entries)


def test_the_codebook_is_placed_by_the_generator_alone():
    codebooks = []
    for seed in (1, 1, 2):
        bottleneck = build(VectorQuantizedBottleneck)
        torch.manual_seed(len(codebooks))
        bottleneck(random(9, 6), random(9, 5), torch.Generator().manual_seed(seed))
        codebooks.append(bottleneck.codebook.weight.detach())
    assert torch.equal(codebooks[0], codebooks[1])
    assert not torch.equal(codebooks[0], codebooks[2])


def test_codebooks_without_the_flag_have_been_trained():
    bottleneck, old = (build(VectorQuantizedBottleneck) for _ in range(2))
    weights = {k: v for k, v in old.state_dict().items() if k != 'codebook_is_placed'}
    bottleneck.load_state_dict(weights)
    bottleneck(random(9, 6), random(9, 5))
    assert torch.equal(bottleneck.codebook.weight, weights['codebook.weight'])


def test_used_codes_are_those_of_the_last_hundred_batches():
    bottleneck = build(VectorQuantizedBottleneck, codebook_size=10)
    teachers = [random(1, 6, seed=seed, scale=4.0) for seed in range(150)]
    bottleneck(torch.cat(teachers), random(150, 5), torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = bottleneck.encoder(torch.cat(teachers))
        chosen = torch.cdist(outputs, bottleneck.codebook.weight).argmin(1)
        shares = [bottleneck(teacher, random(1, 5))['used_codes'] for teacher in teachers]
    assert shares[-1] == len(chosen[50:].unique()) / 10


def test_used_codes_are_logged_and_not_minimised():
    bottleneck = build(VectorQuantizedBottleneck)
    losses = bottleneck(random(9, 6), random(9, 5))
    total, logged = BaseModel.parse_losses(None, losses)
    assert total == losses['loss_generation'] + losses['loss_regularization']
    assert logged['used_codes'] == losses['used_codes']


def test_quantization_losses_and_gradients():
    """Each parameter learns from the losses that the cited work gives it, and no other."""
    bottleneck = build(
        VectorQuantizedBottleneck, codebook_size=20, commitment=0.25, regularization_weight=2.0
    )
    teacher, student = random(7, 6, seed=1, scale=3.0), random(7, 5, seed=2)
    losses = bottleneck(teacher, student)
    encoded, entries = bottleneck.encoder(teacher), bottleneck.codebook.weight
    index = torch.cdist(encoded, entries).argmin(1)
    nearest = entries[index]
    distance = (encoded - nearest).square().sum(1).mean()
    torch.testing.assert_close(losses['loss_regularization'], 2.0 * (1 + 0.25) * distance)
    decoded = bottleneck.decode(nearest)
    generation = (decoded - student).square().sum(1).mean()
    torch.testing.assert_close(losses['loss_generation'], generation)

    # Straight through: what the decoder asks of the code arrives at the encoder's output unchanged,
    # and the codebook hears nothing of it.
    encoder, codebook = list(bottleneck.encoder.parameters()), [bottleneck.codebook.weight]
    actual = torch.autograd.grad(
        losses['loss_generation'], encoder + codebook, retain_graph=True, allow_unused=True
    )
    leaf = nearest.detach().requires_grad_()
    wanted = (bottleneck.decode(leaf) - student).square().sum(1).mean()
    (gradient,) = torch.autograd.grad(wanted, leaf)
    expected = torch.autograd.grad(encoded, encoder, gradient, retain_graph=True)
    torch.testing.assert_close(actual[:-1], expected)
    assert actual[-1] is None

    actual = torch.autograd.grad(losses['loss_regularization'], encoder + codebook)
    commitment = 2.0 * 0.25 * (encoded - nearest.detach()).square().sum(1).mean()
    expected = torch.autograd.grad(commitment, encoder)
    torch.testing.assert_close(actual[:-1], expected)
    update = torch.zeros_like(entries)
    for i in range(7):
        update[index[i]] += 2.0 * 2 * (nearest[i] - encoded[i]).detach() / 7
    torch.testing.assert_close(actual[-1], update)


@pytest.mark.parametrize('kind', [SelfAttentionBottleneck, VectorQuantizedBottleneck])
def test_only_a_distribution_can_be_sampled(kind):
    with pytest.raises(ConfigError, match="target='mean'"):
        build(kind).encode(random(2, 6), sample=True)


@pytest.mark.parametrize('kind', BOTTLENECKS)
def test_training_recovers_what_two_modalities_share(kind):
    """The student is a function of two of the teacher's channels: two are enough to predict it."""
    bottleneck = build(kind, 8, 2, 8)
    teacher = random(256, 8, seed=1)
    student = teacher[:, :2] @ random(2, 8, seed=2, scale=3.0)
    optimizer = torch.optim.Adam(bottleneck.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(800):
        optimizer.zero_grad()
        sum(bottleneck(teacher, student, generator).values()).backward()
        optimizer.step()
    variance = student.var(0, unbiased=False).sum()
    assert bottleneck.evaluate(teacher, student).generation < 0.15 * variance


@pytest.mark.parametrize('kind', BOTTLENECKS)
def test_bad_sizes_are_named(kind):
    for sizes in ((8, 9, 16), (16, 9, 8), (8, 0, 8)):
        with pytest.raises(ConfigError, match='from 1 to 8'):
            kind(*sizes)
    with pytest.raises(ConfigError, match='kernel_size'):
        kind(8, 4, 8, kernel_size=2)
    with pytest.raises(ConfigError, match='reduction'):
        kind(8, 4, 8, reduction='none')
    bottleneck = kind(6, 4, 5)
    teacher, student = random(2, 6, 3, 3), random(2, 5, 3, 3)
    for method in (bottleneck, bottleneck.evaluate):
        with pytest.raises(ConfigError, match=r"teacher's feature is \(2, 5, 3, 3\).* 6 channels"):
            method(student, student)
        with pytest.raises(ConfigError, match=r"student's feature is \(2, 6, 3, 3\).* 5 channels"):
            method(teacher, teacher)
        with pytest.raises(ConfigError, match=r'\(2, 6, 3, 3\) and .* \(1, 5, 3, 3\)'):
            method(teacher, student[:1])
        with pytest.raises(ConfigError, match=r'\(2, 6, 3, 3\) and .* \(2, 5, 3, 2\)'):
            method(teacher, student[..., :2])
    with pytest.raises(ConfigError, match='code is'):
        bottleneck.decode(teacher)
    with pytest.raises(ConfigError, match='6 channels'):
        bottleneck.encode(student)


def test_other_values_are_checked_and_configs_build():
    with pytest.raises(ConfigError, match='divisors'):
        SelfAttentionBottleneck(8, 4, 8, channel_groups=3)
    with pytest.raises(ConfigError, match='at least 1'):
        SelfAttentionBottleneck(8, 4, 8, num_heads=0)
    with pytest.raises(ConfigError, match='codebook_size'):
        VectorQuantizedBottleneck(8, 4, 8, codebook_size=0)
    config = dict(in_channels=8, bottleneck_size=4, out_channels=8)
    for kind in BOTTLENECKS:
        assert type(MODELS.build(dict(type=f'ciba_bev.{kind.__name__}', **config))) is kind
