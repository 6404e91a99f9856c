from __future__ import annotations

import pytest
import torch
from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss
from torch.nn import functional

NAMES = ('random', 'no rows', 'certain', 'all background')


def scores(name: str, dtype: torch.dtype):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 7, generator=generator).to(dtype)
    target = torch.randint(0, 8, (50,), generator=generator)  # 7 is background
    if name == 'no rows':
        return logits[:0], target[:0]
    if name == 'certain':
        logits = logits * 20
    elif name == 'all background':
        target[:] = 7
    return logits, target


def sigmoid_loss(logits, target, gamma, alpha):
    """Lin et al., equation 5, of each score."""
    is_target = functional.one_hot(target, 8)[:, :7].bool()
    probability = torch.where(is_target, logits.sigmoid(), (-logits).sigmoid())
    factor = torch.where(is_target, alpha, 1 - alpha)
    wrong = torch.where(is_target, (-logits).sigmoid(), logits.sigmoid())
    return -factor * wrong**gamma * probability.log()


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize(('gamma', 'alpha'), [(2.0, 0.25), (1.5, 0.6), (0.0, 0.5)])
def test_sigmoid_loss_and_gradient(ours, name, gamma, alpha):
    logits, target = scores(name, torch.float64)
    logits.requires_grad_()
    expected = sigmoid_loss(logits, target, gamma, alpha)
    expected.sum().backward()
    loss, gradient = torch.full_like(logits, 7), torch.full_like(logits, 7)
    arguments = logits.detach(), target, logits.new_empty(0)
    ours.sigmoid_focal_loss_forward(*arguments, loss, gamma=gamma, alpha=alpha)
    ours.sigmoid_focal_loss_backward(*arguments, gradient, gamma=gamma, alpha=alpha)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, logits.grad)


def test_mmdets_loss_for_gpus_equals_its_loss_for_cpus(ours_in_mmcv):
    from mmdet.models.losses.focal_loss import sigmoid_focal_loss

    logits, target = scores('random', torch.float32)
    results = []
    for loss in (sigmoid_focal_loss, py_sigmoid_focal_loss):
        leaf = logits.clone().requires_grad_()
        labels = functional.one_hot(target, 8)[:, :7] if loss is py_sigmoid_focal_loss else target
        value = loss(leaf, labels, avg_factor=3.0)
        value.backward()
        results.append((value.detach(), leaf.grad))
    torch.testing.assert_close(*results)


def test_saturated_scores_have_finite_losses(ours):
    logits = torch.tensor([[200.0, -200.0]])
    for target in ([0], [1], [2]):
        loss = torch.empty(1, 2)
        arguments = logits, torch.tensor(target), logits.new_empty(0)
        ours.sigmoid_focal_loss_forward(*arguments, loss, gamma=2.0, alpha=0.25)
        assert loss.isfinite().all()
        ours.sigmoid_focal_loss_backward(*arguments, loss, gamma=2.0, alpha=0.25)
        assert loss.isfinite().all()


def test_weights_of_classes_multiply_rows(ours):
    logits, target = scores('random', torch.float32)
    weight = torch.rand(7)
    plain, weighted = torch.empty_like(logits), torch.empty_like(logits)
    options = dict(gamma=2.0, alpha=0.25)
    ours.sigmoid_focal_loss_forward(logits, target, logits.new_empty(0), plain, **options)
    ours.sigmoid_focal_loss_forward(logits, target, weight, weighted, **options)
    factors = torch.cat((weight, torch.ones(1)))[target]
    torch.testing.assert_close(weighted, plain * factors[:, None])


@pytest.mark.parametrize('name', ['random', 'certain'])
def test_softmax_loss_and_gradient(ours_in_mmcv, name):
    from mmcv.ops import softmax_focal_loss

    logits, target = scores(name, torch.float64)
    target = target.clamp(max=6)
    weight = torch.rand(7, dtype=torch.float64)
    leaf, other = (logits.clone().requires_grad_() for _ in range(2))
    loss = softmax_focal_loss(leaf, target, 2.0, 0.25, weight, 'mean')
    log = other.log_softmax(1).gather(1, target[:, None])[:, 0]
    expected = (-0.25 * weight[target] * (1 - log.exp()) ** 2 * log).mean()
    torch.testing.assert_close(loss, expected)
    (3 * loss).backward()
    (3 * expected).backward()
    torch.testing.assert_close(leaf.grad, other.grad)
