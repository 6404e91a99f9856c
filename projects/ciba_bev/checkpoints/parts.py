"""Starting some parts of a model from those of another model's checkpoint."""

from __future__ import annotations

from typing import Mapping, Sequence

import torch
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from ..errors import CibaError
from .matching import weights_of
from .published import PILLAR_INPUT_LAYER, with_pillar_height

_EXAMPLES = 3
# How kernels of sparse convolutions are stored: spconv 2 puts the output channels first, mmcv last.
_SPARSE_KERNEL_DIMS = 5
_TO_SPCONV2, _TO_MMCV = (4, 0, 1, 2, 3), (1, 2, 3, 4, 0)


def load_parts(model: nn.Module, checkpoint: str, parts: Sequence[str]) -> int:
    """Copy some parts of another model's checkpoint into a model that has the same parts.

    Kernels of sparse convolutions are brought into the layout of the operators in use, and the
    first layer of a pillar encoder of mmdet3d before 1.0 gets the input that was added since. What
    was taken over and what was not is logged in one line.

    Args:
        model: The model.
        checkpoint: File, address, or name of published weights.
        parts: Names of submodules, the same in both models. Each must be there as a whole.

    Returns:
        Number of parameters and buffers copied, counters of batches not counted.

    Raises:
        CibaError: The file cannot be read, or a part is not in it or is of another shape.
    """
    weights = weights_of(CheckpointLoader.load_checkpoint(checkpoint, 'cpu'))
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
    """Find what a model's parts would start from, in the model's layout.

    Args:
        model: The model.
        weights: State dict of the other model.
        parts: Names of submodules.
        checkpoint: Where the weights are from, for the message.

    Returns:
        Every parameter and buffer of the parts that the file has, by the model's names. Only
        counters of batches may be lacking.

    Raises:
        CibaError: Something is missing or of another shape.
    """
    chosen, lacking = {}, []
    for name, own in model.state_dict().items():
        if not any(name.startswith(f'{part}.') for part in parts):
            continue
        value = weights.get(name)
        if value is not None and value.shape != own.shape:
            value = _in_layout(name, value, own.shape)
        if value is not None:
            chosen[name] = value
        elif not name.endswith('num_batches_tracked'):
            lacking.append(name)
    absent = [part for part in parts if not any(n.startswith(f'{part}.') for n in chosen)]
    if lacking or absent:
        names = ', '.join([*lacking, *absent][:_EXAMPLES])
        raise CibaError(
            f'{checkpoint}: {" and ".join(parts)} cannot start from it: {len(lacking)} of their '
            f'entries are missing there or have another shape ({names}, ...). It belongs to '
            'another model. Give the checkpoint of one with the same parts (model.init_cfg.'
            'checkpoint), or start at random (--cfg-options model.init_cfg=None).'
        )
    return chosen


def _in_layout(name: str, value: Tensor, shape: torch.Size) -> Tensor | None:
    """The same weights as another version of the operators stores them, or None."""
    if name == PILLAR_INPUT_LAYER:
        value = with_pillar_height(value)
    if value.dim() == _SPARSE_KERNEL_DIMS:
        # Kernels are 3 wide at most and have 5 channels or more: the shapes cannot be confused.
        for order in (_TO_SPCONV2, _TO_MMCV):
            if value.permute(order).shape == shape:
                return value.permute(order)
    return value if value.shape == shape else None


def _count(names: Mapping[str, Tensor]) -> int:
    return sum(not name.endswith('num_batches_tracked') for name in names)
