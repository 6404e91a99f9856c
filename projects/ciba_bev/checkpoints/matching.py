"""Load weights into a model, and refuse those of another model."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from ..errors import CibaError

_EXAMPLES = 3
# The message of torch for a shape mismatch; names are those after the model renamed its keys.
_SIZE_MISMATCH = re.compile(r'size mismatch for ([^:\s]+):')


@dataclass
class WeightComparison:
    """Comparison of the weights in a file with a model, by parameter and buffer name.

    Attributes:
        matched: Number of the model's entries that the file contains.
        missing: Entries of the model that are not in the file.
        unexpected: Entries of the file that are not in the model.
        mismatched: Entries of both with different shapes.
    """

    matched: int
    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]

    @property
    def is_complete(self) -> bool:
        """Whether all entries of the model and of the file match."""
        return not (self.missing or self.unexpected or self.mismatched)

    @property
    def covers_half(self) -> bool:
        """Whether the file contains at least half of the model's entries."""
        lacking = len(self.missing) + len(self.mismatched)
        return self.matched > 0 and self.matched >= lacking

    def describe(self) -> str:
        """Describe the comparison for a message.

        Returns:
            The numbers of entries that match and that do not, with a few names.
        """
        lines = [f'{self.matched} entries match']
        for what, names in (
            ('missing in the file', self.missing),
            ('unknown to the model', self.unexpected),
            ('of another shape', self.mismatched),
        ):
            if names:
                shown = ', '.join(names[:_EXAMPLES]) + (', ...' if len(names) > _EXAMPLES else '')
                lines.append(f'{len(names)} {what}: {shown}')
        return '\n'.join(lines)


def get_state_dict(
    checkpoint: Mapping[str, Any], revise_keys: Sequence[tuple[str, str]] = ((r'^module\.', ''),)
) -> OrderedDict[str, Tensor]:
    """Return the state dict in a checkpoint.

    Args:
        checkpoint: A state dict, or a dict with one under ``state_dict``.
        revise_keys: Regular expressions and their replacements, applied to every key in turn.

    Returns:
        The state dict with its new keys, and torch's version metadata if there is some.
    """
    state_dict = checkpoint.get('state_dict', checkpoint)
    weights = OrderedDict()
    for key, value in state_dict.items():
        if not isinstance(value, Tensor):
            continue
        for pattern, replacement in revise_keys:
            key = re.sub(pattern, replacement, key)
        weights[key] = value
    weights._metadata = getattr(state_dict, '_metadata', OrderedDict())
    return weights


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> WeightComparison:
    """Copy matching weights into a model.

    Args:
        model: The model, not wrapped for distributed training.
        weights: Its state dict, or that of another model.

    Returns:
        Comparison of the weights with the model, without ``num_batches_tracked``.
    """
    weights = copy_weights(weights)
    mismatched: list[str] = []
    try:
        result = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        mismatched = _SIZE_MISMATCH.findall(str(error))
        if not mismatched:
            raise
        for name in mismatched:
            weights.pop(name, None)
        result = model.load_state_dict(weights, strict=False)
    missing = [
        name
        for name in result.missing_keys
        if name not in mismatched and not name.endswith('num_batches_tracked')
    ]
    counted = [name for name in model.state_dict() if not name.endswith('num_batches_tracked')]
    return WeightComparison(
        matched=len(counted) - len(missing) - len(mismatched),
        missing=missing,
        unexpected=list(result.unexpected_keys),
        mismatched=mismatched,
    )


def copy_weights(weights: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    """Return a state dict with the same tensors, which can be changed."""
    copied = OrderedDict(weights)
    # Versions of torch's modules: sparse convolutions find the layout of their kernels there.
    copied._metadata = OrderedDict(getattr(weights, '_metadata', {}))
    return copied


def require_complete(comparison: WeightComparison, filename: str, config: str) -> None:
    """Check that all weights match.

    Args:
        comparison: Comparison of the weights with the model.
        filename: The checkpoint, for the message.
        config: The config of the model, for the message.

    Raises:
        CibaError: Entries are missing, unexpected or of another shape.
    """
    if not comparison.is_complete:
        raise CibaError(
            f'{filename}: this checkpoint is not one of the model in {config}.\n'
            f'{comparison.describe()}\n'
            'Give the config it was trained with (the copy in its work directory), or a checkpoint '
            'of this config.'
        )


def require_half(comparison: WeightComparison, filename: str, purpose: str) -> None:
    """Check that initial weights match at least half of a model.

    Args:
        comparison: Comparison of the weights with the model.
        filename: The checkpoint, for the message.
        purpose: The config field that names it, for the message.

    Raises:
        CibaError: Less than half of the model's entries match.
    """
    if not comparison.covers_half:
        raise CibaError(
            f'{filename}: {purpose} would take over almost nothing of this checkpoint.\n'
            f'{comparison.describe()}\n'
            'It belongs to another model, or its names need a prefix '
            "(init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.'))."
        )
    if not comparison.is_complete:
        print_log(
            f'{filename}: {purpose} takes over a part of this checkpoint.\n{comparison.describe()}',
            logger='current',
            level=30,
        )


def check_pretrained_weights(model: nn.Module) -> None:
    """Compare the pretrained weights of a model's submodules with these submodules.

    mmengine itself ignores names that do not match. The model is not changed.

    Args:
        model: A model whose submodules may have ``init_cfg=dict(type='Pretrained', ...)``.

    Raises:
        CibaError: Such a file is missing, unreadable, or matches less than half of its submodule.
    """
    for name, part in model.named_modules():
        init_configs = getattr(part, 'init_cfg', None) or []
        for init_config in init_configs if isinstance(init_configs, list) else [init_configs]:
            if init_config.get('type') != 'Pretrained' or not init_config.get('checkpoint'):
                continue
            filename = init_config['checkpoint']
            if init_config.get('parts'):
                # Checked by `parts.load_parts`.
                continue
            weights = get_state_dict(CheckpointLoader.load_checkpoint(filename, 'cpu'))
            prefix = init_config.get('prefix')
            if prefix:
                prefix = prefix if prefix.endswith('.') else f'{prefix}.'
                weights = get_state_dict(
                    {key[len(prefix) :]: w for key, w in weights.items() if key.startswith(prefix)}
                )
            require_half(compare_weights(part, weights), filename, f'model.{name}.init_cfg')


def compare_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> WeightComparison:
    """Compare weights with a model by name and shape, without loading them.

    Args:
        model: The model.
        weights: A state dict.

    Returns:
        The comparison.
    """
    own = {
        name: tuple(value.shape)
        for name, value in model.state_dict().items()
        if not name.endswith('num_batches_tracked')
    }
    mismatched = [n for n, shape in own.items() if n in weights and weights[n].shape != shape]
    missing = [name for name in own if name not in weights]
    return WeightComparison(
        matched=len(own) - len(missing) - len(mismatched),
        missing=missing,
        unexpected=[
            name for name in weights if name not in own and not name.endswith('num_batches_tracked')
        ],
        mismatched=mismatched,
    )
