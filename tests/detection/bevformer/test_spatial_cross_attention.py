import pytest
import torch

from ciba_bev.detection.attention import initialize_transformer
from ciba_bev.detection.bevformer import SpatialCrossAttention
from ciba_bev.detection.bevformer.geometry import FrameGeometry, pack_visible

SHAPES = [(4, 6), (2, 3)]
CELLS = 30
DIMS, HEADS, POINTS, HEIGHTS = 8, 2, 4, 2
BATCH, CAMERAS, QUERIES = 2, 3, 7


@pytest.fixture
def attention():
    torch.manual_seed(0)
    module = SpatialCrossAttention(DIMS, HEADS, len(SHAPES), POINTS, dropout=0.0)
    initialize_transformer(module)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module.double().eval()


@pytest.fixture
def inputs():
    """Query, features, image points and visibility; the two samples see different cells."""
    generator = torch.Generator().manual_seed(1)
    visible = torch.rand(BATCH, CAMERAS, QUERIES, HEIGHTS, generator=generator) < 0.3
    visible[1, :, :4] = False  # the second sample sees fewer
    visible[0, 0] = True
    visible[:, :, 6] = False  # nobody sees the last query
    return (
        torch.randn(BATCH, QUERIES, DIMS, generator=generator).double(),
        torch.randn(BATCH, CAMERAS, CELLS, DIMS, generator=generator).double(),
        torch.rand(BATCH, CAMERAS, QUERIES, HEIGHTS, 2, generator=generator).double(),
        visible,
    )


def call(attention, query, features, points, visible):
    packed = pack_visible(points, visible, query.device)
    return attention(query, features, FrameGeometry((1, QUERIES), None, SHAPES, packed))


def bilinear(feature_map, x, y):
    """A sample of (h, w, C) at (x, y) in [0, 1]; cells outside are zero."""
    height, width = feature_map.shape[:2]
    x, y = x * width - 0.5, y * height - 0.5
    total = torch.zeros(feature_map.size(2), dtype=feature_map.dtype)
    for row in range(height):
        for column in range(width):
            share = max(0.0, 1 - abs(float(x) - column)) * max(0.0, 1 - abs(float(y) - row))
            total += share * feature_map[row, column]
    return total


def one_answer(attention, query, features, points):
    """What one query reads from one camera, head by head and point by point."""
    inner = attention.deformable_attention
    value = inner.value_proj(features).view(CELLS, HEADS, -1)
    offsets = inner.sampling_offsets(query).view(HEADS, len(SHAPES), POINTS, 2)
    weights = inner.attention_weights(query).view(HEADS, -1).softmax(-1)
    weights = weights.view(HEADS, len(SHAPES), POINTS)
    heads = []
    for head in range(HEADS):
        total, start = 0.0, 0
        for level, (height, width) in enumerate(SHAPES):
            cells = value[start : start + height * width, head].view(height, width, -1)
            start += height * width
            for point in range(POINTS):
                x, y = points[point % HEIGHTS]
                dx, dy = offsets[head, level, point]
                sample = bilinear(cells, x + dx / width, y + dy / height)
                total = total + weights[head, level, point] * sample
        heads.append(total)
    return torch.cat(heads)


def test_agrees_with_loops_over_cameras_and_queries(attention, inputs):
    query, features, points, visible = inputs
    with torch.no_grad():
        output = call(attention, *inputs)
        for sample in range(BATCH):
            for index in range(QUERIES):
                answers = [
                    one_answer(
                        attention,
                        query[sample, index],
                        features[sample, camera],
                        points[sample, camera, index],
                    )
                    for camera in range(CAMERAS)
                    if visible[sample, camera, index].any()
                ]
                mean = sum(answers) / len(answers) if answers else torch.zeros(DIMS).double()
                expected = query[sample, index] + attention.output_proj(mean)
                torch.testing.assert_close(output[sample, index], expected)


def test_samples_with_different_calibrations_do_not_meet(attention, inputs):
    together = call(attention, *inputs)
    for index in range(BATCH):
        alone = call(attention, *(tensor[[index]] for tensor in inputs))
        torch.testing.assert_close(together[[index]], alone)


def test_cameras_are_summed_in_single_precision(attention, inputs, monkeypatch):
    """Under autocast each camera answers in half precision; their sum is not rounded again."""
    query, features, points, visible = inputs
    packed = pack_visible(points, torch.ones_like(visible), query.device)
    # Near 3, bfloat16 has steps of 1/64: too coarse for this sum.
    answers = torch.full((BATCH * CAMERAS, packed.query.size(1), DIMS), 1 + 2**-7).bfloat16()
    monkeypatch.setattr(attention.deformable_attention, 'forward', lambda *arguments: answers)
    means = []
    attention.output_proj.register_forward_pre_hook(lambda module, args: means.append(args[0]))
    geometry = FrameGeometry((1, QUERIES), None, SHAPES, packed)
    attention.float()(query.float(), features.float(), geometry)
    exact = answers[:CAMERAS, 0].double().sum(0)
    assert means[0].dtype == torch.float32
    torch.testing.assert_close(means[0][0, 0].double(), exact / CAMERAS, rtol=1e-6, atol=0)


def test_a_query_that_nobody_sees_reads_nothing(attention, inputs):
    query, features, points, visible = inputs
    output = call(attention, *inputs)
    other = call(attention, query, torch.randn_like(features), points, visible)
    torch.testing.assert_close(output[:, 6], query[:, 6] + attention.output_proj.bias)
    assert torch.equal(output[:, 6], other[:, 6])
    assert not torch.allclose(output[0, 0], other[0, 0])

    blind = call(attention, query, features, points, torch.zeros_like(visible))
    torch.testing.assert_close(blind, query + attention.output_proj.bias)


def test_gradients_reach_query_features_and_weights(attention, inputs):
    query, features, points, visible = inputs
    query.requires_grad_()
    features.requires_grad_()
    call(attention, query, features, points, visible).square().sum().backward()
    for tensor in (query, features, *attention.parameters()):
        assert torch.count_nonzero(tensor.grad) > 0
    # Cameras that see nothing of a sample get nothing.
    unseen = ~visible.flatten(2).any(-1)
    assert torch.count_nonzero(features.grad[unseen]) == 0
