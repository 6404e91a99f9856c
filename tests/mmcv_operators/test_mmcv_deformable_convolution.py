from __future__ import annotations

import pytest
import torch
from mmcv.ops import deform_conv2d, modulated_deform_conv2d
from torch import Tensor
from torch.nn import functional

from mmcv_operators import arrays, deformable_convolution

# Batch, channels, size, output channels, kernel, stride, padding, dilation, groups, deformable
# groups; the sizes odd, and of one row.
CASES = {
    'plain': (2, 4, (7, 9), 6, (3, 3), 1, 1, 1, 1, 1),
    'grouped': (2, 8, (6, 5), 4, (3, 3), 2, 1, 1, 2, 4),
    'dilated': (1, 6, (9, 8), 2, (3, 2), 1, 2, 2, 1, 3),
    'one tap': (2, 4, (1, 6), 4, (1, 1), 1, 0, 1, 1, 2),
}
# The same with few numbers, whose slopes are measured one by one.
SMALL_CASES = {
    'plain': (1, 2, (3, 4), 2, (3, 3), 1, 1, 1, 1, 1),
    'grouped': (1, 4, (4, 3), 2, (3, 3), 2, 1, 1, 2, 4),
    'dilated': (1, 3, (4, 3), 2, (3, 2), 1, 2, 2, 1, 3),
    'one tap': (2, 4, (1, 3), 2, (1, 1), 1, 0, 1, 1, 2),
}


def arguments(
    case: str, offsets: str = 'random', dtype: torch.dtype = torch.float64, cases: dict = CASES
):
    batch, channels, size, out, kernel, stride, padding, dilation, groups, deform = cases[case]
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    taps = kernel[0] * kernel[1]
    weight = random(out, channels // groups, *kernel)
    inputs = random(batch, channels, *size)
    options = dict(stride=stride, padding=padding, dilation=dilation)
    out_size = functional.conv2d(inputs, weight, groups=groups, **options).shape[2:]
    offset = random(batch, deform * taps * 2, *out_size)
    if offsets == 'none':
        offset = torch.zeros_like(offset)
    elif offsets == 'far outside':
        offset = offset + 100
    mask = random(batch, deform * taps, *out_size).sigmoid()
    tensors = [inputs, offset, mask, weight, random(out)]
    return [t.requires_grad_() for t in tensors], (stride, padding, dilation, groups, deform)


def results(tensors, options, modulated):
    inputs, offset, mask, weight, bias = leaves = [t.detach().requires_grad_() for t in tensors]
    if modulated:
        output = modulated_deform_conv2d(inputs, offset, mask, weight, bias, *options)
    else:
        output = deform_conv2d(inputs, offset, weight, *options)
    output.square().sum().backward()
    return [output.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize('modulated', [True, False])
@pytest.mark.parametrize('offsets', ['random', 'none', 'far outside'])
@pytest.mark.parametrize('case', CASES)
def test_output_and_gradients_are_those_of_the_compiled_operator(
    compiled, ours, use_ours_in_mmcv, case, offsets, modulated
):
    tensors, options = arguments(case, offsets, torch.float32)
    expected = results(tensors, options, modulated)
    use_ours_in_mmcv()
    got = results(tensors, options, modulated)
    assert len(got) == len(expected) == (6 if modulated else 4)
    if offsets == 'none' and 'cpu' not in arrays.DEVICES_WITH_LOOPS:
        # At the center of a cell there are two slopes, and ``grid_sample`` takes either.
        del got[2], expected[2]
    for tensor, other in zip(got, expected):
        torch.testing.assert_close(tensor, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


@pytest.mark.parametrize('case', SMALL_CASES)
def test_gradients_are_the_slopes(ours, ours_in_mmcv, case):
    tensors, options = arguments(case, cases=SMALL_CASES)
    assert torch.autograd.gradcheck(
        lambda *inputs: modulated_deform_conv2d(*inputs, *options), tensors
    )


@pytest.mark.parametrize('case', CASES)
def test_without_offsets_it_is_a_convolution(ours, ours_in_mmcv, case):
    (inputs, offset, _, weight, _), (stride, padding, dilation, groups, deform) = arguments(
        case, 'none'
    )
    got = deform_conv2d(inputs, offset, weight, stride, padding, dilation, groups, deform)
    expected = functional.conv2d(inputs, weight, None, stride, padding, dilation, groups)
    torch.testing.assert_close(got, expected)


def test_autocast_changes_nothing(ours, ours_in_mmcv):
    tensors, options = arguments('grouped', dtype=torch.float32)
    expected = results(tensors, options, True)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = results(tensors, options, True)
    assert all(map(torch.equal, got, expected))


def test_torchvisions_operator_is_used_where_it_is(ours_in_mmcv, monkeypatch):
    if deformable_convolution.torchvision_operator() is None:
        pytest.skip('no torchvision that fits this torch is installed')
    tensors, options = arguments('grouped')
    expected = results(tensors, options, True)
    monkeypatch.setattr(arrays, 'DEVICES_WITH_LOOPS', ())
    for tensor, other in zip(results(tensors, options, True), expected):
        torch.testing.assert_close(tensor, other)
