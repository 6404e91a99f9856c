import pytest
import torch
from torch import nn

from ciba_bev.detection.gradients import evaluation_mode, without_gradient


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


def test_evaluation_mode_ends_with_every_module_as_it_was(monkeypatch):
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm2d(2), nn.Dropout()))
    model[1][0].eval()
    # These would go through all modules, each in its own way.
    monkeypatch.setattr(nn.Module, 'train', None)
    monkeypatch.setattr(nn.Module, 'eval', None)
    before = [module.training for module in model.modules()]
    assert before == [True, True, True, False, True]
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before
    with pytest.raises(KeyError), evaluation_mode(model):
        raise KeyError
    assert [module.training for module in model.modules()] == before
