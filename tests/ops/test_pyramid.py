import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ciba_bev.ops import deformable_attention
from ciba_bev.ops.constants import constant_tensor
from ciba_bev.ops.pyramid import level_sizes, level_starts

SHAPES = ((7, 5), (3, 4), (2, 1))
CPU = torch.device('cpu')


class Calls(TorchDispatchMode):
    """Notes the operators that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket._qualified_op_name)
        return function(*args, **(kwargs or {}))


def test_levels_lie_one_after_the_other():
    assert level_starts(SHAPES) == (0, 35, 47)
    assert level_starts(SHAPES[:1]) == (0,)
    assert level_starts(()) == (0,)
    assert level_sizes(SHAPES, CPU).tolist() == [[5, 7], [4, 3], [1, 2]]
    assert level_sizes([list(shape) for shape in SHAPES], CPU).dtype == torch.float32


def test_constants_are_made_once():
    constant_tensor.cache_clear()
    first = level_sizes(SHAPES, CPU)
    with Calls() as calls:
        assert level_sizes(list(SHAPES), CPU) is first
    assert not calls.names
    assert constant_tensor((1, 2), torch.int32, CPU) is not constant_tensor(
        (1, 2), torch.int64, CPU
    )
    # Numbers that are equal in Python are one key, and one tensor of the dtype that is asked for.
    assert constant_tensor((1.0, 2.0), torch.int32, CPU).tolist() == [1, 2]


def test_a_constant_first_seen_in_inference_mode_serves_training():
    constant_tensor.cache_clear()
    with torch.inference_mode():
        level_sizes(SHAPES, CPU)
    offsets = torch.ones(3, 2, requires_grad=True)
    (offsets / level_sizes(SHAPES, CPU)).sum().backward()
    assert offsets.grad.tolist() == pytest.approx(
        [pytest.approx(row) for row in (1 / level_sizes(SHAPES, CPU)).tolist()]
    )


def test_second_derivatives_are_refused_rather_than_wrong():
    value = torch.rand(1, 49, 1, 2, requires_grad=True)
    locations = torch.rand(1, 3, 1, 3, 2, 2, requires_grad=True)
    weights = torch.rand(1, 3, 1, 3, 2, requires_grad=True)
    output = deformable_attention(value, SHAPES, locations, weights)
    (gradient,) = torch.autograd.grad(output.square().sum(), weights, create_graph=True)
    with pytest.raises(RuntimeError, match='differentiate twice'):
        gradient.sum().backward()
