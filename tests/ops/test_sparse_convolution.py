"""Sparse convolutions are dense ones of a grid with holes."""

from __future__ import annotations

import sys
import types

import pytest
import torch
import torch.nn.functional as F

from ciba_bev.ops import sparse_convolution
from ciba_bev.ops.sparse_convolution import (
    SparseConv3d,
    SparseConvTensor,
    SubMConv3d,
    find_implementation,
)

SHAPE = (5, 6, 7)


def random_cells(share, batch_size=2, shape=SHAPE, channels=3, seed=0):
    """Some cells of a batch of grids, in no order, with features in double precision."""
    generator = torch.Generator().manual_seed(seed)
    cells = (torch.rand(batch_size, *shape, generator=generator) < share).nonzero()
    cells = cells[torch.randperm(len(cells), generator=generator)].int()
    features = torch.randn(len(cells), channels, generator=generator, dtype=torch.float64)
    return SparseConvTensor(features.requires_grad_(), cells, shape, batch_size)


def dense_convolution(x, layer):
    """The same by torch on the whole grid, and which cells of the output are reached."""
    occupied = x.replace_feature(torch.ones(len(x.features), 1, dtype=torch.float64)).dense()
    weight = layer.weight.permute(0, 4, 1, 2, 3)
    submanifold = isinstance(layer, SubMConv3d)
    options = dict(
        stride=1 if submanifold else layer.stride,
        padding=[size // 2 for size in layer.kernel_size] if submanifold else layer.padding,
    )
    reached = F.conv3d(occupied, weight.new_ones(1, 1, *layer.kernel_size), **options) > 0.5
    mask = occupied if submanifold else reached.double()
    return F.conv3d(x.dense(), weight, layer.bias, **options) * mask, mask


LAYERS = [
    pytest.param(SubMConv3d, 3, {}, id='submanifold'),
    pytest.param(SubMConv3d, (3, 1, 5), {}, id='submanifold, sizes'),
    pytest.param(SparseConv3d, 3, dict(stride=2, padding=1), id='stride 2'),
    pytest.param(SparseConv3d, 3, dict(stride=2, padding=(0, 1, 1)), id='stride 2, paddings'),
    pytest.param(SparseConv3d, (3, 1, 1), dict(stride=(2, 1, 1)), id='height'),
    pytest.param(SparseConv3d, 2, dict(stride=3, bias=False), id='gaps between kernels'),
]


@pytest.mark.parametrize('share', [0.1, 0.4, 1.0])
@pytest.mark.parametrize(('kind', 'size', 'options'), LAYERS)
def test_equals_the_dense_convolution_forwards_and_backwards(kind, size, options, share):
    x = random_cells(share)
    torch.manual_seed(1)
    layer = kind(3, 4, size, **options).double()
    sparse = layer(x).dense()
    dense, _ = dense_convolution(x, layer)
    torch.testing.assert_close(sparse, dense)

    loss_weights = torch.randn_like(dense)
    sources = [x.features, *layer.parameters()]
    gradients = torch.autograd.grad((sparse * loss_weights).sum(), sources)
    wanted = torch.autograd.grad((dense * loss_weights).sum(), sources)
    torch.testing.assert_close(gradients, wanted)


def test_cells_of_the_output():
    x = random_cells(0.1)
    same = SubMConv3d(3, 4, 3).double()(x)
    assert same.indices is x.indices
    layer = SparseConv3d(3, 4, 3, stride=2, padding=1).double()
    y = layer(x)
    assert (y.indices.dtype, y.batch_size, y.spatial_shape) == (torch.int32, 2, [3, 3, 4])
    _, mask = dense_convolution(x, layer)
    assert torch.equal(y.indices.long(), mask[:, 0].nonzero())


@pytest.mark.parametrize('kind', [SubMConv3d, SparseConv3d])
def test_no_cell_and_one_cell(kind):
    layer = kind(3, 4, 3, padding=1)
    nothing = SparseConvTensor(torch.zeros(0, 3), torch.zeros(0, 4, dtype=torch.int32), SHAPE, 2)
    assert layer(nothing).dense().shape == (2, 4, *SHAPE)
    assert not layer(nothing).features.numel()
    corner = torch.tensor([[1, 4, 5, 6]], dtype=torch.int32)
    one = layer(SparseConvTensor(torch.ones(1, 3), corner, SHAPE, 2))
    # Itself, or the eight cells of the corner.
    assert len(one.features) == (1 if kind is SubMConv3d else 8)


def test_rows_of_a_grid_do_not_touch():
    # The last cell of one row and the first of the next are neighbors in memory only.
    cells = torch.tensor([[0, 0, 0, 6], [0, 0, 1, 0], [0, 4, 5, 6], [1, 0, 0, 0]]).int()
    layer = SubMConv3d(1, 1, 3, bias=False)
    torch.nn.init.ones_(layer.weight)
    assert layer(SparseConvTensor(torch.ones(4, 1), cells, SHAPE, 2)).features.tolist() == [[1]] * 4


def test_neighbors_are_searched_once(monkeypatch):
    searches = []
    search = sparse_convolution._pair_neighbors
    monkeypatch.setattr(
        sparse_convolution, '_pair_neighbors', lambda *args: searches.append(1) or search(*args)
    )
    x = random_cells(0.3)
    layers = [SubMConv3d(3, 3, 3).double() for _ in range(3)]
    for layer in layers:
        x = layer(x)
    assert len(searches) == 1


def test_the_start_is_that_of_dense_layers():
    torch.manual_seed(0)
    weight = SubMConv3d(40, 50, 3).weight.detach()
    dense = torch.nn.Conv3d(40, 50, 3).weight.detach()
    assert weight.abs().max().item() == pytest.approx(dense.abs().max().item(), rel=1e-3)
    assert weight.std().item() == pytest.approx(dense.std().item(), rel=1e-2)


def fake_package(monkeypatch, name, **constants):
    package = types.ModuleType(name)
    package.pytorch = types.ModuleType(f'{name}.pytorch')
    package.cppconstants = types.ModuleType(f'{name}.cppconstants')
    vars(package.cppconstants).update(constants)
    for module in (package, package.pytorch, package.cppconstants):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return package.pytorch


@pytest.mark.parametrize(
    ('gpu', 'spconv', 'triton', 'chosen'),
    [
        (False, 'gpu', True, 'ciba_bev.ops.sparse_convolution'),
        (True, 'gpu', True, 'spconv.pytorch'),
        (True, 'cpu', True, 'spconv_triton.pytorch'),
        (True, 'cpu', False, 'ciba_bev.ops.sparse_convolution'),
        (True, 'broken', True, 'spconv_triton.pytorch'),
        (True, None, False, 'ciba_bev.ops.sparse_convolution'),
    ],
)
def test_choice_of_the_implementation(monkeypatch, gpu, spconv, triton, chosen):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    if spconv in ('gpu', 'cpu'):
        fake_package(monkeypatch, 'spconv', CPU_ONLY_BUILD=spconv == 'cpu')
    elif spconv == 'broken':
        fake_package(monkeypatch, 'spconv')
    else:
        for name in ('spconv', 'spconv.cppconstants', 'spconv.pytorch'):
            monkeypatch.setitem(sys.modules, name, None)
    if triton:
        fake_package(monkeypatch, 'spconv_triton')
    else:
        monkeypatch.setitem(sys.modules, 'spconv_triton.pytorch', None)
    assert find_implementation().__name__ == chosen
