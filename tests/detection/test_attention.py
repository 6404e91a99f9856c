import math

import pytest
import torch

from ciba_bev.detection.attention import (
    DeformableAttention,
    MultiheadSelfAttention,
    PreciseLinear,
    initialize_transformer,
    inverse_sigmoid,
    softmax_over_points,
    star_offsets,
)
from ciba_bev.errors import ConfigError


def test_inverse_sigmoid_inverts_and_stays_finite():
    probability = torch.linspace(0.001, 0.999, 50, dtype=torch.float64)
    torch.testing.assert_close(inverse_sigmoid(probability).sigmoid(), probability)
    edges = inverse_sigmoid(torch.tensor([0.0, 1.0, -0.1, 1.1]))
    expected = math.log(1e-5)
    assert edges.tolist() == pytest.approx([expected, -expected] * 2, rel=1e-4)


def test_first_offsets_form_a_star():
    offsets = star_offsets(8, 3)
    directions = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    expected = torch.tensor(directions).float()
    for point in range(3):
        torch.testing.assert_close(offsets[:, point], expected * (point + 1), atol=1e-5, rtol=0)


def test_initialisation_starts_from_the_star_whatever_the_query():
    attention = DeformableAttention(embed_dims=16, num_heads=4, num_levels=2, num_points=3)
    initialize_transformer(torch.nn.ModuleList([attention]))
    locations = attention.predict_locations(
        torch.randn(1, 2, 16), torch.zeros(1, 2, 1, 1, 2), torch.tensor([[8.0, 4.0], [4.0, 2.0]])
    )
    assert locations.shape == (1, 2, 4, 2, 3, 2)
    offsets = locations * torch.tensor([[8.0, 4.0], [4.0, 2.0]])[:, None]
    for level in range(2):
        torch.testing.assert_close(offsets[0, 1, :, level], star_offsets(4, 3))
    assert torch.count_nonzero(attention.attention_weights(torch.randn(1, 2, 16))) == 0


def test_anchors_of_maps_and_points_are_added_to_offsets_in_cells():
    attention = DeformableAttention(embed_dims=16, num_heads=4, num_levels=2, num_points=3)
    torch.nn.init.normal_(attention.sampling_offsets.weight)
    query, anchors = torch.randn(2, 5, 16), torch.rand(2, 5, 2, 3, 2)
    sizes = torch.tensor([[8.0, 4.0], [4.0, 2.0]])
    offsets = attention.sampling_offsets(query).view(2, 5, 4, 2, 3, 2)
    expected = anchors[:, :, None] + offsets / sizes[:, None]
    torch.testing.assert_close(attention.predict_locations(query, anchors, sizes), expected)


def test_a_precise_layer_is_a_linear_one_that_autocast_does_not_round():
    precise, plain = PreciseLinear(8, 3), torch.nn.Linear(8, 3)
    plain.load_state_dict(precise.state_dict())
    features = torch.randn(5, 8)
    expected = plain(features)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(precise(features), expected)
        assert precise(features.bfloat16()).dtype == torch.float32
        assert plain(features).dtype == torch.bfloat16
    assert precise.double()(features.double()).dtype == torch.float64


@pytest.mark.parametrize('points', [4, 16, 32])
def test_softmax_over_points_is_softmax(points):
    logits = torch.randn(2, 3, 4, points, requires_grad=True)
    weights = softmax_over_points(logits)
    torch.testing.assert_close(weights, logits.softmax(-1))
    direction = torch.randn(weights.shape)
    (gradient,) = torch.autograd.grad(weights, logits, direction)
    (expected,) = torch.autograd.grad(logits.softmax(-1), logits, direction)
    torch.testing.assert_close(gradient, expected)


def test_dimensions_must_divide():
    with pytest.raises(ConfigError, match='embed_dims 20 is not a multiple of num_heads 8'):
        DeformableAttention(embed_dims=20, num_heads=8)


def test_deformable_attention_reads_where_the_offset_points():
    """One head, one point, one level: the output is the cell that reference + offset names."""
    attention = DeformableAttention(4, num_heads=1, num_levels=1, num_points=1).eval()
    for linear in (attention.value_proj, attention.output_proj):
        torch.nn.init.eye_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    torch.nn.init.zeros_(attention.sampling_offsets.weight)
    # Three columns to the right and one row down.
    attention.sampling_offsets.bias.data = torch.tensor([3.0, 1.0])
    height, width = 5, 8
    value = torch.randn(1, height * width, 4)
    query = torch.randn(1, 1, 4)
    row, column = 2, 4
    reference = torch.tensor([[[(column + 0.5) / width, (row + 0.5) / height]]])
    output = attention(query, value, torch.randn(1, 1, 4), reference, [(height, width)])
    torch.testing.assert_close(output, query + value[:, [(row + 1) * width + column + 3]])


def test_positions_compare_queries_but_are_not_mixed():
    """With one query there is nothing to compare, so its position cannot matter."""
    attention = MultiheadSelfAttention(8, 2, dropout=0.0)
    query = torch.randn(2, 1, 8)
    one, two = (attention(query, torch.randn(2, 1, 8)) for _ in range(2))
    torch.testing.assert_close(one, two)
    value = attention.attn.in_proj_weight[16:], attention.attn.in_proj_bias[16:]
    projected = torch.nn.functional.linear(query, *value)
    torch.testing.assert_close(one, query + attention.attn.out_proj(projected))
