import numpy as np
import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

from ciba_bev.errors import ConfigError
from ciba_bev.ops import deformable_attention
from ciba_bev.ops.deformable_attention import _RecomputingAttention

# The path of CPU tensors and the one of devices that have neither compiled code nor a kernel.
PATHS = {'compiled': deformable_attention, 'recomputing': _RecomputingAttention.apply}
SHAPES = ((7, 5), (3, 4), (2, 1))


@pytest.fixture(params=PATHS)
def attention(request):
    return PATHS[request.param]


def random_inputs(
    batch=2, queries=9, heads=3, points=4, channels=5, shapes=SHAPES, dtype=torch.float64, seed=0
):
    """Value, locations (some outside the levels) and weights that require gradients."""
    generator = torch.Generator().manual_seed(seed)

    def random(*size):
        return torch.rand(size, generator=generator, dtype=torch.float64)

    cells = sum(height * width for height, width in shapes)
    value = random(batch, cells, heads, channels) - 0.5
    locations = random(batch, queries, heads, len(shapes), points, 2) * 1.6 - 0.3
    weights = random(batch, queries, heads, len(shapes), points)
    return [tensor.to(dtype).requires_grad_() for tensor in (value, locations, weights)]


def away_from_kinks(locations, shapes):
    """The same samples moved off the lines where bilinear interpolation has no derivative."""
    sizes = locations.new_tensor([(width, height) for height, width in shapes])[:, None]
    position = locations.detach() * sizes - 0.5
    fraction = (position - position.floor()).clamp(0.1, 0.9)
    return ((position.floor() + fraction + 0.5) / sizes).requires_grad_()


def by_mmcv(value, shapes, locations, weights):
    return multi_scale_deformable_attn_pytorch(value, torch.tensor(shapes), locations, weights)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
def test_agrees_with_mmcv(attention, dtype):
    value, locations, weights = inputs = random_inputs(dtype=dtype)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    output = attention(value, SHAPES, locations, weights)
    expected = by_mmcv(value, SHAPES, locations, weights)
    assert output.dtype == dtype
    torch.testing.assert_close(output, expected, rtol=tolerance, atol=tolerance)
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    for ours, theirs in zip(
        torch.autograd.grad(output, inputs, direction),
        torch.autograd.grad(expected, inputs, direction),
    ):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=10 * tolerance)


def test_gradients_are_those_of_finite_differences(attention):
    shapes = ((3, 4), (2, 2))
    value, locations, weights = random_inputs(1, 2, 2, 2, 2, shapes, seed=3)
    locations = away_from_kinks(locations, shapes)
    assert torch.autograd.gradcheck(
        lambda *inputs: attention(inputs[0], shapes, *inputs[1:]), (value, locations, weights)
    )


def test_a_sample_is_the_bilinear_mean_of_four_cells(attention):
    value = torch.arange(12.0, dtype=torch.float64).view(1, 12, 1, 1)  # rows 0-3, 4-7, 8-11
    # A quarter of a cell to the right of the centre of column 1, half a cell below row 1.
    location = torch.tensor([1.75 / 4, 2.0 / 3], dtype=torch.float64).view(1, 1, 1, 1, 1, 2)
    output = attention(value, ((3, 4),), location, torch.full((1, 1, 1, 1, 1), 2.0).double())
    assert output.item() == pytest.approx(2 * (0.5 * 5.25 + 0.5 * 9.25))


def test_a_constant_map_stays_constant_inside_and_is_zero_outside(attention):
    shapes = ((8, 6), (4, 3))
    value = torch.full((1, 60, 2, 3), 1.5, dtype=torch.float64)
    locations = torch.rand(1, 20, 2, 2, 4, 2, generator=torch.Generator().manual_seed(0)).double()
    # Half a cell of the coarser level, so that no sample leans over an edge.
    inside = 1 / 6 + locations * (4 / 6)
    weights = torch.full((1, 20, 2, 2, 4), 1 / 8, dtype=torch.float64)
    output = attention(value, shapes, inside, weights)
    torch.testing.assert_close(output, torch.full((1, 20, 6), 1.5, dtype=torch.float64))

    outside = locations + torch.tensor([0.0, 1.2]).double()
    assert torch.count_nonzero(attention(value, shapes, outside, weights)) == 0
    # On the very edge half of the sample lies outside.
    edge = torch.full((1, 20, 2, 2, 4, 2), 0.5, dtype=torch.float64)
    edge[..., 0] = 1.0
    output = attention(value, shapes, edge, weights)
    torch.testing.assert_close(output, torch.full((1, 20, 6), 0.75, dtype=torch.float64))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype):
    try:
        with torch.autocast('cpu', dtype):
            pass
    except RuntimeError as error:
        if dtype is not torch.float16 or 'only support Bfloat16' not in str(error):
            raise
        pytest.skip('this torch has no autocast to float16 on a CPU; newer ones have')
    value, locations, weights = (tensor.detach() for tensor in random_inputs(dtype=torch.float32))
    value = value.to(dtype)
    with torch.autocast('cpu', dtype):
        output = deformable_attention(value, SHAPES, locations, weights)
    assert output.dtype == dtype
    exact = by_mmcv(value.double(), SHAPES, locations.double(), weights.double())
    # Nothing but the last rounding is lost.
    torch.testing.assert_close(
        output.double(), exact, rtol=torch.finfo(dtype).eps / 2 + 1e-5, atol=1e-6
    )


def test_half_precision_gradients_keep_their_dtype():
    value, locations, weights = random_inputs(dtype=torch.float32)
    value = value.detach().bfloat16().requires_grad_()
    deformable_attention(value, SHAPES, locations, weights).float().sum().backward()
    assert (value.grad.dtype, locations.grad.dtype) == (torch.bfloat16, torch.float32)
    assert torch.isfinite(value.grad).all()


@pytest.fixture
def restore_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures('restore_threads')
def test_the_number_of_threads_changes_nothing():
    results = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        inputs = random_inputs(dtype=torch.float32)
        output = deformable_attention(inputs[0], SHAPES, *inputs[1:])
        results.append([output, *torch.autograd.grad(output.square().sum(), inputs)])
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other))


def test_only_the_inputs_are_kept_for_the_backward_pass(attention):
    value, locations, weights = inputs = random_inputs(
        2, 50, 4, 8, 16, ((6, 6),), dtype=torch.float32
    )
    sampled = 2 * 50 * 4 * 8 * 16  # what storing the sampled values would take
    kept = []

    def note(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        attention(value, ((6, 6),), locations, weights)
    assert kept
    assert sum(kept) <= sum(tensor.numel() for tensor in inputs) < sampled


def test_memory_layout_does_not_matter(attention):
    value, locations, weights = inputs = random_inputs()
    strided = [
        tensor.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
        for tensor in inputs
    ]
    assert not strided[0].is_contiguous()
    output = attention(value, SHAPES, locations, weights)
    other = attention(strided[0], SHAPES, *strided[1:])
    torch.testing.assert_close(other, output)
    # A gradient that is expanded from one number, as that of a sum is.
    for ours, theirs in zip(
        torch.autograd.grad(output.sum(), inputs), torch.autograd.grad(other.sum(), strided)
    ):
        torch.testing.assert_close(ours, theirs)


def test_no_queries_give_no_output(attention):
    value, locations, weights = random_inputs(queries=0)
    output = attention(value, SHAPES, locations, weights)
    assert output.shape == (2, 0, 15)
    output.sum().backward()
    assert torch.count_nonzero(value.grad) == 0


def test_samples_of_a_batch_do_not_meet(attention):
    value, locations, weights = (tensor.detach() for tensor in random_inputs())
    together = attention(value, SHAPES, locations, weights)
    for index in range(2):
        chosen = slice(index, index + 1)
        alone = attention(value[chosen], SHAPES, locations[chosen], weights[chosen])
        np.testing.assert_array_equal(together[chosen].numpy(), alone.numpy())


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(value=(2, 48, 3, 5)), r'48 cells.*\(7, 5\).*have 49'),
        (dict(value=(1, 49, 3, 5)), r'value'),
        (dict(value=(2, 49, 2, 5)), r'value'),
        (dict(locations=(2, 9, 3, 2, 4, 2)), 'sampling_locations has 2 levels.*3'),
        (dict(weights=(2, 9, 3, 3, 3)), r'weights \(2, 9, 3, 3, 3\) do not fit'),
    ],
    ids=['cells', 'batch', 'heads', 'levels', 'points'],
)
def test_shapes_that_do_not_belong_together_are_refused(change, message):
    sizes = dict(value=(2, 49, 3, 5), locations=(2, 9, 3, 3, 4, 2), weights=(2, 9, 3, 3, 4))
    value, locations, weights = (torch.zeros(size) for size in {**sizes, **change}.values())
    with pytest.raises(ConfigError, match=message):
        deformable_attention(value, SHAPES, locations, weights)
