from __future__ import annotations

import pytest
import torch

REDUCTIONS = ('max', 'sum', 'mean')


def points(name: str, dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(0)
    feats = torch.randn(500, 6, generator=generator).to(dtype)
    coors = torch.randint(-1, 5, (500, 3), generator=generator, dtype=torch.int32)
    if name == 'all outside':
        coors[:] = -1
    elif name == 'one voxel':
        coors[:] = 3
    elif name == 'two axes':
        coors = coors[:, :2]
    elif name == 'no points':
        feats, coors = feats[:0], coors[:0]
    elif name == 'equal features':
        feats = feats.round()
    return feats, coors


NAMES = ('random', 'no points', 'all outside', 'one voxel', 'two axes', 'equal features')


def by_dictionary(feats, coors, reduce_type):
    """Voxel by voxel in Python: features, cells, voxel of each point, counts."""
    members = {}
    for i, cell in enumerate(coors.tolist()):
        if min(cell) >= 0:
            members.setdefault(tuple(cell), []).append(i)
    cells = sorted(members)
    voxel_of_point = torch.full((len(feats),), -1, dtype=torch.int32)
    rows = []
    for voxel, cell in enumerate(cells):
        voxel_of_point[members[cell]] = voxel
        of_cell = feats[members[cell]]
        rows.append(of_cell.amax(0) if reduce_type == 'max' else getattr(of_cell, reduce_type)(0))
    counts = torch.tensor([len(members[cell]) for cell in cells], dtype=torch.int32)
    values = torch.stack(rows) if rows else feats.new_zeros(0, feats.size(1))
    return (
        values,
        torch.tensor(cells, dtype=torch.int32).view(-1, coors.size(1)),
        voxel_of_point,
        counts,
    )


@pytest.mark.parametrize('reduce_type', REDUCTIONS)
@pytest.mark.parametrize('name', NAMES)
def test_forward_gives_what_a_dictionary_of_voxels_gives(ours, name, reduce_type):
    feats, coors = points(name)
    got = ours.dynamic_point_to_voxel_forward(feats, coors, reduce_type)
    expected = by_dictionary(feats, coors, reduce_type)
    torch.testing.assert_close(got[0], expected[0], rtol=1e-6, atol=1e-5)
    for tensor, other in zip(got[1:], expected[1:]):
        assert tensor.dtype == torch.int32
        assert torch.equal(tensor, other)


@pytest.mark.parametrize('reduce_type', REDUCTIONS)
@pytest.mark.parametrize('name', [name for name in NAMES if name != 'equal features'])
def test_backward_is_what_autograd_finds(ours, name, reduce_type):
    feats, coors = points(name, torch.float64)
    voxel_feats, _, voxel, count = ours.dynamic_point_to_voxel_forward(feats, coors, reduce_type)
    gradient = torch.randn_like(voxel_feats)
    got = torch.full_like(feats, 7)
    ours.dynamic_point_to_voxel_backward(
        got, gradient, feats, voxel_feats, voxel, count, reduce_type
    )
    feats.requires_grad_()
    values = by_dictionary(feats, coors, reduce_type)[0]
    if len(values) > 0:
        (values * gradient).sum().backward()
        torch.testing.assert_close(got, feats.grad)
    else:
        assert torch.equal(got, torch.zeros_like(got))


def test_the_first_of_equal_maxima_gets_the_gradient(ours):
    feats, coors = points('equal features')
    values, _, voxel, count = ours.dynamic_point_to_voxel_forward(feats, coors, 'max')
    got = torch.empty_like(feats)
    ours.dynamic_point_to_voxel_backward(
        got, torch.ones_like(values), feats, values, voxel, count, 'max'
    )
    for row in range(len(values)):
        members = (voxel == row).nonzero()[:, 0]
        for channel in range(feats.size(1)):
            first = members[feats[members, channel] == values[row, channel]][0]
            assert got[members, channel].nonzero().view(-1).tolist() == [
                members.tolist().index(first)
            ]


def test_mmcv_scatters_with_it(ours_in_mmcv):
    from mmcv.ops import DynamicScatter

    feats, coors = points('random')
    scatter = DynamicScatter([1, 1, 1], [0, 0, 0, 5, 5, 5], average_points=True)
    feats.requires_grad_()
    values, cells = scatter(feats, coors)
    values.sum().backward()
    inside = (coors >= 0).all(1)
    assert len(cells) == len(coors[inside].unique(dim=0))
    assert torch.equal(feats.grad.abs().sum(1) > 0, inside)


def test_an_unknown_reduction_is_named(ours):
    with pytest.raises(ValueError, match="'min'"):
        ours.dynamic_point_to_voxel_forward(*points('random'), 'min')


def test_a_grid_too_large_for_numbers_is_named(ours):
    feats, coors = points('random')
    coors[0] = 2**31 - 2
    with pytest.raises(ValueError, match='2147483647, 2147483647'):
        ours.dynamic_point_to_voxel_forward(feats, coors, 'max')
