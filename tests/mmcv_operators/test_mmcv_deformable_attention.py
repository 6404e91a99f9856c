from __future__ import annotations

import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)

SHAPES = ((5, 7), (3, 4), (1, 1))


def arguments(name: str, dtype: torch.dtype = torch.float64, sizes=(2, 6, 3, 4, 2)):
    generator = torch.Generator().manual_seed(0)
    batch, queries, heads, channels, points = sizes
    shapes = torch.tensor(SHAPES)
    starts = torch.cat((shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]))
    value = torch.randn(batch, int(shapes.prod(1).sum()), heads, channels, generator=generator)
    size = (batch, queries, heads, len(SHAPES), points)
    locations = torch.rand(*size, 2, generator=generator) * 1.4 - 0.2
    weights = torch.rand(*size, generator=generator)
    if name == 'all outside':
        locations += 5
    elif name == 'no queries':
        locations, weights = locations[:, :0], weights[:, :0]
    elif name == 'one query':
        locations, weights = locations[:, :1], weights[:, :1]
    elif name == 'not finite':
        locations[:, ::2, ..., 0] = float('nan')
        locations[:, 1::2, ..., 1] = float('inf')
    tensors = [t.to(dtype).requires_grad_() for t in (value, locations, weights)]
    return tensors[0], shapes, starts, tensors[1], tensors[2]


NAMES = ('random', 'all outside', 'no queries', 'one query')


@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float64, 1e-9), (torch.float32, 2e-5), (torch.float16, 2e-2)]
)
@pytest.mark.parametrize('name', NAMES)
def test_output_and_gradients_are_those_of_mmcvs_pytorch_version(
    ours, ours_in_mmcv, name, dtype, tolerance
):
    value, shapes, starts, locations, weights = arguments(name, dtype)
    output = MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)
    assert output.dtype == dtype
    output.square().sum().backward()
    got = [output.detach(), *(t.grad for t in (value, locations, weights))]
    value, shapes, _, locations, weights = arguments(name, torch.float64)
    # Rounded as the inputs were.
    leaves = [t.detach().to(dtype).double().requires_grad_() for t in (value, locations, weights)]
    expected = multi_scale_deformable_attn_pytorch(leaves[0], shapes, *leaves[1:])
    expected.square().sum().backward()
    for tensor, other in zip(got, [expected.detach(), *(leaf.grad for leaf in leaves)]):
        scale = float(other.abs().max()) if other.numel() > 0 else 0.0
        torch.testing.assert_close(
            tensor.double(), other, rtol=tolerance, atol=tolerance * max(scale, 1.0)
        )


def test_gradients_are_the_slopes(ours, ours_in_mmcv):
    value, shapes, starts, locations, weights = arguments('random', sizes=(1, 2, 2, 2, 2))
    assert torch.autograd.gradcheck(
        lambda *tensors: MultiScaleDeformableAttnFunction.apply(
            tensors[0], shapes, starts, tensors[1], tensors[2], 64
        ),
        (value, locations, weights),
    )


def test_places_that_are_no_numbers_count_as_outside(ours_in_mmcv):
    value, shapes, starts, locations, weights = arguments('not finite')
    output = MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)
    assert torch.equal(output, torch.zeros_like(output))


def test_levels_lie_where_their_starts_say(ours):
    value, shapes, starts, locations, weights = (t.detach() for t in arguments('random'))
    expected = ours.ms_deform_attn_forward(value, shapes, starts, locations, weights, 64)
    # The levels in the opposite order, with the same starts as numbers of cells allow.
    order = [2, 1, 0]
    cells = value.split(shapes.prod(1).tolist(), 1)
    moved = torch.cat([cells[level] for level in order], 1)
    new_starts = torch.tensor([13, 1, 0])
    got = ours.ms_deform_attn_forward(moved, shapes, new_starts, locations, weights, 64)
    torch.testing.assert_close(got, expected)
