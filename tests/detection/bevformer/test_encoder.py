import pytest
import torch

from ciba_bev.detection.attention import initialize_transformer
from ciba_bev.detection.bevformer import (
    BEVFormerEncoder,
    BEVFormerEncoderLayer,
    TemporalSelfAttention,
)
from ciba_bev.detection.bevformer.geometry import FrameGeometry, pack_visible

DIMS, BEV, IMAGE = 8, (3, 4), [(2, 3)]
QUERIES = 12


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    layers = [BEVFormerEncoderLayer(DIMS, 2, 1, 2, 2, 16, 0.0) for _ in range(2)]
    encoder = BEVFormerEncoder(layers)
    initialize_transformer(encoder)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder.double()


def make_inputs(batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)

    def random(*size):
        return torch.rand(size, generator=generator, dtype=torch.float64)

    return dict(
        bev_queries=random(batch, QUERIES, DIMS),
        query_pos=random(batch, QUERIES, DIMS),
        prev_bev=random(batch, QUERIES, DIMS),
        has_previous=torch.tensor([True, False])[:batch],
        image_features=random(batch, 2, 6, DIMS),
        bev_reference_points=random(batch, QUERIES, 2, 2),
        image_reference_points=random(batch, 2, QUERIES, 2, 2),
        visible=random(batch, 2, QUERIES, 2) < 0.6,
    )


def encode(encoder, bev_reference_points, image_reference_points, visible, **inputs):
    packed = pack_visible(image_reference_points, visible, visible.device)
    return encoder(**inputs, geometry=FrameGeometry(BEV, bev_reference_points, IMAGE, packed))


def only(inputs, index):
    return {
        name: value[[index]] if isinstance(value, torch.Tensor) else value
        for name, value in inputs.items()
    }


def test_samples_with_and_without_a_past_do_not_meet(encoder):
    inputs = make_inputs()
    together = encode(encoder, **inputs)
    with_past = encode(encoder, **only(inputs, 0))
    without_past = encode(encoder, **{**only(inputs, 1), 'prev_bev': None, 'has_previous': None})
    torch.testing.assert_close(together, torch.cat((with_past, without_past)))


def test_the_past_matters_to_those_who_have_one(encoder):
    inputs = make_inputs()
    output = encode(encoder, **inputs)
    other = encode(encoder, **{**inputs, 'prev_bev': inputs['prev_bev'] + 1})
    assert not torch.allclose(output[0], other[0])
    assert torch.equal(output[1], other[1])


@pytest.mark.parametrize('history', [True, False])
def test_checkpointing_changes_neither_output_nor_gradients(encoder, history):
    inputs = make_inputs()
    if not history:
        inputs.update(prev_bev=None, has_previous=None)
    results = []
    for with_cp in (False, True):
        encoder.with_cp = with_cp
        encoder.zero_grad()
        queries = inputs['bev_queries'].clone().requires_grad_()
        output = encode(encoder, **{**inputs, 'bev_queries': queries})
        output.square().sum().backward()
        results.append(
            [output.detach(), queries.grad, *(value.grad.clone() for value in encoder.parameters())]
        )
    for plain, checkpointed in zip(*results):
        torch.testing.assert_close(checkpointed, plain)


def test_checkpointing_keeps_fewer_activations(encoder):
    def kept_numbers(with_cp):
        kept = []
        encoder.with_cp = with_cp
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            encode(encoder, **make_inputs())
        return sum(kept)

    assert kept_numbers(True) < 0.5 * kept_numbers(False)


def test_temporal_attention_averages_the_two_maps():
    """Offsets of zero and one point: the mean of what stands at the two reference points."""
    attention = TemporalSelfAttention(4, num_heads=2, num_points=1, dropout=0.0).double()
    for linear in (attention.value_proj, attention.output_proj):
        torch.nn.init.eye_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    torch.nn.init.zeros_(attention.sampling_offsets.weight)
    torch.nn.init.zeros_(attention.sampling_offsets.bias)
    query, position, previous, current = torch.randn(4, 1, QUERIES, 4).double().unbind(0)
    # In the previous map each query looks one row further than in the present one.
    rows, columns = torch.meshgrid(torch.arange(3), torch.arange(4), indexing='ij')
    here = torch.stack(((columns + 0.5) / 4, (rows + 0.5) / 3), dim=-1).double()
    before = here + torch.tensor([0.0, 1 / 3]).double()
    reference = torch.stack((before, here), dim=2).flatten(0, 1).unsqueeze(0)
    geometry = FrameGeometry(BEV, reference, IMAGE, None)
    output = attention(query, position, previous, current, geometry)
    further = torch.zeros_like(previous)
    further[:, :8] = previous[:, 4:]  # from outside come zeros
    torch.testing.assert_close(output, query + (further + current) / 2)


def test_temporal_attention_weighs_the_points_of_each_map_alone():
    attention = TemporalSelfAttention(4, num_heads=2, num_points=3, dropout=0.0).double()
    initialize_transformer(torch.nn.ModuleList([attention]))
    torch.nn.init.normal_(attention.attention_weights.weight)
    torch.nn.init.zeros_(attention.sampling_offsets.bias)
    query, position, current = torch.randn(3, 1, QUERIES, 4).double().unbind(0)
    reference = torch.full((1, QUERIES, 2, 2), 0.5).double()
    # Constant maps: however the points are weighed, each map answers with its constant.
    previous, current = torch.ones_like(query), torch.ones_like(query) * 3
    geometry = FrameGeometry(BEV, reference, IMAGE, None)
    output = attention(query, position, previous, current, geometry)
    value = attention.value_proj(torch.full((4,), 2.0).double())
    torch.testing.assert_close(output, query + attention.output_proj(value))


def test_every_layer_reads_the_map_of_before_and_the_first_queries(encoder):
    """With a past; without one, each layer reads its own queries twice."""
    seen = []
    for layer in encoder.layers:
        layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    inputs = make_inputs()
    encode(encoder, **inputs)
    assert len(seen) == 2
    for query, _, previous, current, *_ in seen:
        assert torch.equal(previous[0], inputs['prev_bev'][0])
        assert torch.equal(current[0], inputs['bev_queries'][0])
        assert torch.equal(previous[1], query[1])
        assert torch.equal(current[1], query[1])
    assert not torch.equal(seen[0][0], seen[1][0])
