import pytest
import torch
from torch import nn

from ciba_bev.detection.gradients import without_gradient


def test_a_pass_without_gradient_costs_no_gradient_later():
    layer = nn.Linear(3, 2)
    with torch.autocast('cpu', torch.bfloat16):
        with without_gradient():
            first = layer(torch.ones(1, 3))
        second = layer(torch.ones(1, 3))
    assert not first.requires_grad
    second.sum().backward()
    torch.testing.assert_close(layer.weight.grad, torch.ones(2, 3))


def test_copies_made_without_a_gradient_are_dropped(monkeypatch):
    # Newer torch does not keep them, so that no gradient shows whether they were.
    dropped = []
    monkeypatch.setattr(torch, 'clear_autocast_cache', lambda: dropped.append(True))
    with without_gradient():
        assert not dropped
        assert not torch.is_grad_enabled()
    assert dropped == [True]


def test_gradients_are_back_after_an_error():
    with pytest.raises(KeyError), without_gradient():
        raise KeyError
    assert torch.is_grad_enabled()
