"""The sparse encoder beside mmdet3d's, and beside a dense one."""

from __future__ import annotations

import copy
import importlib

import pytest
import torch
import torch.nn.functional as F
from mmdet3d.models.middle_encoders import SparseEncoder as StockEncoder

from ciba_bev.detection.object_dgcnn import SparseEncoder
from ciba_bev.ops import sparse_convolution

# The teacher's, narrower and of fewer cells.
OPTIONS = dict(
    in_channels=5,
    sparse_shape=[41, 48, 40],
    base_channels=4,
    output_channels=6,
    encoder_channels=((4, 4, 8), (8, 8, 10), (10, 10, 12), (12, 12)),
    encoder_paddings=((0, 0, 1), (0, 0, 1), (0, 0, [0, 1, 1]), (0, 0)),
)


def scene(cells=300, batch_size=3):
    """Voxels of a batch whose last sample has none."""
    generator = torch.Generator().manual_seed(0)
    shape = torch.tensor([batch_size - 1, *OPTIONS['sparse_shape']])
    drawn = (torch.rand(cells, 4, generator=generator) * shape).long().unique(dim=0)
    drawn = drawn[torch.randperm(len(drawn), generator=generator)].int()
    return torch.randn(len(drawn), 5, generator=generator), drawn, batch_size


def with_random_statistics(encoder):
    """Normalizations that have seen something."""
    torch.manual_seed(1)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_()
    return encoder


@pytest.fixture(params=['own', 'spconv'])
def library(request, monkeypatch):
    """Sparse convolutions that run on a CPU."""
    if request.param == 'spconv':
        pytest.importorskip('spconv')
        module = importlib.import_module('spconv.pytorch')
        monkeypatch.setattr(sparse_convolution, 'find_implementation', lambda: module)
    return request.param


@pytest.fixture
def encoder(library):
    torch.manual_seed(0)
    return with_random_statistics(SparseEncoder(**OPTIONS))


def dense_encoder(encoder, features, coors, batch_size):
    """Written down once more, with dense convolutions and masks."""
    grid = features.new_zeros(batch_size, *OPTIONS['sparse_shape'], features.shape[1])
    mask = grid.new_zeros(batch_size, 1, *OPTIONS['sparse_shape'])
    sample, *cell = coors.long().unbind(1)
    mask[(sample, torch.zeros_like(sample), *cell)] = 1
    grid = grid.index_put((sample, *cell), features).permute(0, 4, 1, 2, 3)

    def norm(x, layer):
        occupied = mask[:, 0].nonzero(as_tuple=True)
        rows = x.permute(0, 2, 3, 4, 1)
        normalized = layer(rows[occupied])
        return torch.zeros_like(rows).index_put(occupied, normalized).permute(0, 4, 1, 2, 3)

    def submanifold(x, layer):
        return F.conv3d(x, layer.weight.permute(0, 4, 1, 2, 3), padding=1) * mask

    def strided(x, layers, **options):
        nonlocal mask
        weight = layers[0].weight.permute(0, 4, 1, 2, 3)
        mask = (F.conv3d(mask, weight.new_ones(1, 1, *weight.shape[2:]), **options) > 0.5).float()
        return norm(F.conv3d(x, weight, **options), layers[1]).relu()

    x = norm(submanifold(grid, encoder.conv_input[0]), encoder.conv_input[1]).relu()
    for stage, padding in enumerate((1, 1, (0, 1, 1), None)):
        *residual, last = encoder.encoder_layers[stage]
        for block in residual if padding else [*residual, last]:
            y = norm(submanifold(x, block.conv1), block.bn1).relu()
            x = (norm(submanifold(y, block.conv2), block.bn2) + x).relu()
        if padding:
            x = strided(x, last, stride=2, padding=padding)
    x = strided(x, encoder.conv_out, stride=(2, 1, 1))
    return x.reshape(batch_size, -1, *x.shape[-2:])


@pytest.mark.parametrize('training', [False, True])
def test_equals_dense_convolutions(encoder, library, training):
    features, coors, batch_size = scene()
    encoder.train(training)
    reference = copy.deepcopy(encoder)
    output = encoder(features.requires_grad_(), coors, batch_size)
    wanted = dense_encoder(reference, features, coors, batch_size)
    torch.testing.assert_close(output, wanted, rtol=1e-4, atol=1e-4)
    assert output[2].eq(0).all()
    assert wanted.abs().mean() > 0.05
    if library == 'spconv':
        return  # forwards only, on a CPU
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(2))
    (output * weights).sum().backward()
    gradient, features.grad = features.grad, None
    (wanted * weights).sum().backward()
    torch.testing.assert_close(gradient, features.grad, rtol=1e-3, atol=1e-3)
    for (name, ours), theirs in zip(encoder.named_parameters(), reference.parameters()):
        error = (ours.grad - theirs.grad).norm() / theirs.grad.norm()
        assert error < 1e-4, name


def stock_encoder():
    pytest.importorskip('spconv', reason="mmdet3d's encoder needs spconv to run on a CPU")
    torch.manual_seed(0)
    return with_random_statistics(StockEncoder(**OPTIONS, block_type='basicblock'))


def test_equals_that_of_mmdet3d(library):
    stock, encoder = stock_encoder(), SparseEncoder(**OPTIONS)
    state = stock.state_dict()
    assert {name: value.shape for name, value in encoder.state_dict().items()} == {
        name: value.shape for name, value in state.items()
    }
    encoder.load_state_dict(state)
    # Gradients are needed by neither: spconv computes none on a CPU.
    with torch.no_grad():
        for training in (False, True):
            wanted = stock.train(training)(*scene())
            torch.testing.assert_close(
                encoder.train(training)(*scene()), wanted, rtol=1e-4, atol=1e-4
            )
    for name, buffer in stock.named_buffers():
        torch.testing.assert_close(dict(encoder.named_buffers())[name], buffer, msg=name)


@pytest.mark.parametrize('layout', ['spconv 2', 'mmcv'])
@pytest.mark.parametrize('versions', [True, False])
def test_weights_of_every_layout_can_be_loaded(library, encoder, layout, versions):
    saved = encoder.state_dict()
    wanted = {name: value.clone() for name, value in saved.items()}
    state = saved if versions else dict(saved)
    if layout == 'mmcv':
        for name, value in wanted.items():
            if value.dim() == 5:
                state[name] = value.permute(1, 2, 3, 4, 0).contiguous()
    loaded = SparseEncoder(**OPTIONS)
    loaded.load_state_dict(state)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, wanted[name]), name


def test_another_width_is_refused(library, encoder):
    state = encoder.state_dict()
    state['conv_input.0.weight'] = torch.zeros(4, 3, 3, 3, 7)
    with pytest.raises(RuntimeError, match=r'size mismatch for conv_input\.0\.weight'):
        SparseEncoder(**OPTIONS).load_state_dict(state)


def test_computes_in_float32_under_autocast():
    torch.manual_seed(0)
    encoder = SparseEncoder(**OPTIONS).eval()
    features, coors, batch_size = scene()
    wanted = encoder(features, coors, batch_size)
    with torch.autocast('cpu', torch.bfloat16):
        output = encoder(features, coors, batch_size)
    assert torch.equal(output, wanted)
