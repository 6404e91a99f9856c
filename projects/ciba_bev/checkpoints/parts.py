"""Initialise submodules of a model from the checkpoint of another model."""

from __future__ import annotations

from typing import Mapping, Sequence

import torch
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from ..errors import CibaError
from .matching import get_state_dict
from .published import PILLAR_INPUT_LAYER, with_pillar_height

_EXAMPLES = 3
# Layouts of sparse convolution kernels: spconv 2 has the output channels first, mmcv last.
_SPARSE_KERNEL_DIMS = 5
_TO_SPCONV2, _TO_MMCV = (4, 0, 1, 2, 3), (1, 2, 3, 4, 0)


def load_parts(model: nn.Module, checkpoint: str, parts: Sequence[str]) -> int:
    """Copy submodules from another model's checkpoint into a model.

    Kernels of sparse convolutions are converted to the layout of the operators in use, and the
    first layer of a pillar encoder of mmdet3d < 1.0 to its new number of inputs. The result is
    logged in one line.

    Args:
        model: The model.
        checkpoint: File, URL, or name of published weights.
        parts: Names of submodules, the same in both models. Each must be complete.

    Returns:
        Number of parameters and buffers copied, without ``num_batches_tracked``.

    Raises:
        CibaError: The file cannot be read, or a submodule is missing or of another shape.
    """
    weights = get_state_dict(CheckpointLoader.load_checkpoint(checkpoint, 'cpu'))
    chosen = matching_parts(model, weights, parts, checkpoint)
    own = model.state_dict()
    with torch.no_grad():
        for name, value in chosen.items():
            own[name].copy_(value)
    copied, available, all_own = (_count(names) for names in (chosen, weights, own))
    print_log(
        f'{" and ".join(parts)} start from {checkpoint}: {copied} entries are taken over, the '
        f"file's other {available - copied} are not, and the model's other {all_own - copied} "
        'start at random.',
        logger='current',
    )
    return copied


def matching_parts(
    model: nn.Module, weights: Mapping[str, Tensor], parts: Sequence[str], checkpoint: str
) -> dict[str, Tensor]:
    """Return the weights of submodules, in the model's layout.

    Args:
        model: The model.
        weights: State dict of the other model.
        parts: Names of submodules.
        checkpoint: File of the weights, for the message.

    Returns:
        Parameters and buffers of the submodules, by the model's names. Only
        ``num_batches_tracked`` may be missing.

    Raises:
        CibaError: An entry is missing or of another shape.
    """
    chosen, missing = {}, []
    for name, own in model.state_dict().items():
        if not any(name.startswith(f'{part}.') for part in parts):
            continue
        value = weights.get(name)
        if value is not None and value.shape != own.shape:
            value = _in_layout(name, value, own.shape)
        if value is not None:
            chosen[name] = value
        elif not name.endswith('num_batches_tracked'):
            missing.append(name)
    absent = [part for part in parts if not any(n.startswith(f'{part}.') for n in chosen)]
    if missing or absent:
        names = ', '.join([*missing, *absent][:_EXAMPLES])
        raise CibaError(
            f'{checkpoint}: {" and ".join(parts)} cannot start from it: {len(missing)} of their '
            f'entries are missing there or have another shape ({names}, ...). It belongs to '
            'another model. Give the checkpoint of one with the same parts (model.init_cfg.'
            'checkpoint), or start at random (--cfg-options model.init_cfg=None).'
        )
    return chosen


def _in_layout(name: str, value: Tensor, shape: torch.Size) -> Tensor | None:
    """Convert weights to the layout of the installed operators; None if that is not possible."""
    if name == PILLAR_INPUT_LAYER:
        value = with_pillar_height(value)
    if value.dim() == _SPARSE_KERNEL_DIMS:
        # Kernels have at most 3 cells and at least 5 channels, so that the order is unambiguous.
        for order in (_TO_SPCONV2, _TO_MMCV):
            if value.permute(order).shape == shape:
                return value.permute(order)
    return value if value.shape == shape else None


def _count(names: Mapping[str, Tensor]) -> int:
    return sum(not name.endswith('num_batches_tracked') for name in names)
