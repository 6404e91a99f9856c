"""Focal losses (Lin et al., Focal Loss for Dense Object Detection) and their gradients.

The sigmoid loss is accurate for every logit. mmcv's, whose probabilities are rounded before their
logarithms are taken, gives 87 in place of the loss of a wrong score above about 17.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_SMALLEST = torch.finfo(torch.float32).tiny


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Compute the loss of each score.

    Args:
        input: Logits, (N, classes).
        target: Class of each row, int64 (N,); one outside of the classes means background.
        weight: Weight of each class, or empty; background counts once.
        output: Filled with the losses, (N, classes).
        gamma: How much less certain scores count.
        alpha: Share of the targets' own scores; the others' is ``1 - alpha``.
    """
    signed, factor = _sigmoid_parts(input, target, weight, alpha)[1:]
    output.copy_(-factor * (-signed).sigmoid().pow(gamma) * functional.logsigmoid(signed))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Compute the derivative of each loss: ``grad_input`` (N, classes) is filled with it."""
    is_target, signed, factor = _sigmoid_parts(input, target, weight, alpha)
    hit, miss = signed.sigmoid(), (-signed).sigmoid()
    slope = miss - gamma * hit * functional.logsigmoid(signed)
    grad_input.copy_(torch.where(is_target, -factor, factor) * miss.pow(gamma) * slope)


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Compute the loss of each row.

    Args:
        input: Probabilities, (N, classes).
        target: Class of each row, int64 (N,); a negative one has no loss.
        weight: Weight of each class, or empty.
        output: Filled with the losses, (N,).
        gamma: How much less certain rows count.
        alpha: Factor of all losses.
    """
    hit, factor = _softmax_parts(input, target, weight, alpha)
    output.copy_(-factor * (1 - hit).pow(gamma) * hit.clamp(min=_SMALLEST).log())


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Compute the derivatives of the losses by the logits behind the probabilities.

    Args:
        input: Probabilities, (N, classes).
        target: See :func:`softmax_focal_loss_forward`, as ``weight``, ``gamma`` and ``alpha``.
        weight: See above.
        buff: Filled with the derivative by the logarithm of the target's probability, (N,).
        grad_input: Filled with the derivatives, (N, classes).
        gamma: See above.
        alpha: See above.
    """
    hit, factor = _softmax_parts(input, target, weight, alpha)
    miss, log = 1 - hit, hit.clamp(min=_SMALLEST).log()
    buff.copy_(factor * (gamma * miss.pow(gamma - 1) * hit * log - miss.pow(gamma)))
    classes = torch.arange(input.size(1), device=input.device)
    is_target = (target[:, None] == classes).to(input.dtype)
    grad_input.copy_(buff[:, None] * (is_target - input))


def _sigmoid_parts(
    input: Tensor, target: Tensor, weight: Tensor, alpha: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Which scores are the targets' own, the logits of being right, and the factor of each loss."""
    logits = _in_full_precision(input)
    classes = torch.arange(input.size(1), device=input.device)
    is_target = target[:, None] == classes
    signed = torch.where(is_target, logits, -logits)
    factor = torch.where(is_target, alpha, 1 - alpha).to(logits.dtype)
    if weight.numel() > 0:
        factor = factor * _weight_of_rows(weight, target)[:, None]
    return is_target, signed, factor


def _softmax_parts(
    input: Tensor, target: Tensor, weight: Tensor, alpha: float
) -> tuple[Tensor, Tensor]:
    """Return the probability of each row's target and the factor of its loss."""
    valid = target >= 0
    hit = _in_full_precision(input).gather(1, target.clamp(min=0)[:, None])[:, 0]
    factor = alpha * valid.to(hit.dtype)
    if weight.numel() > 0:
        factor = factor * _weight_of_rows(weight, target)
    return hit, factor


def _in_full_precision(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.element_size() == 2 else tensor


def _weight_of_rows(weight: Tensor, target: Tensor) -> Tensor:
    is_class = (target >= 0) & (target < len(weight))
    return torch.where(is_class, weight[target.clamp(0, len(weight) - 1)], 1)
