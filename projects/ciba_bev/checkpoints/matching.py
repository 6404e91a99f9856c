"""Loading weights into a model, refusing those that were made for another one."""

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
# torch words every shape mismatch like this, after the model's own renaming of keys.
_SIZE_MISMATCH = re.compile(r'size mismatch for ([^:\s]+):')


@dataclass
class WeightComparison:
    """How the weights of a file fit a model, by parameter and buffer name.

    Attributes:
        fitting: Number of the model's entries that the file fills.
        missing: The model's entries that the file does not have.
        unexpected: The file's entries that the model does not have.
        mismatched: Entries that both have, with different shapes.
    """

    fitting: int
    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]

    @property
    def is_complete(self) -> bool:
        """Whether every entry found its counterpart."""
        return not (self.missing or self.unexpected or self.mismatched)

    @property
    def covers_half(self) -> bool:
        """Whether the file fills at least half of the model's entries."""
        lacking = len(self.missing) + len(self.mismatched)
        return self.fitting > 0 and self.fitting >= lacking

    def describe(self) -> str:
        """Counts of what does not fit, with a few names each."""
        lines = [f'{self.fitting} entries fit']
        for what, names in (
            ('missing in the file', self.missing),
            ('unknown to the model', self.unexpected),
            ('of another shape', self.mismatched),
        ):
            if names:
                shown = ', '.join(names[:_EXAMPLES]) + (', ...' if len(names) > _EXAMPLES else '')
                lines.append(f'{len(names)} {what}: {shown}')
        return '\n'.join(lines)


def weights_of(
    checkpoint: Mapping[str, Any], revise_keys: Sequence[tuple[str, str]] = ((r'^module\.', ''),)
) -> OrderedDict[str, Tensor]:
    """The state dict in a checkpoint, its keys revised.

    Args:
        checkpoint: A state dict, or a dict with one under ``state_dict``.
        revise_keys: Regular expressions and their replacements, applied to every key in turn.

    Returns:
        The state dict, with torch's version metadata if the checkpoint has it.
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
    """Copy into a model what fits, and say what did not.

    Args:
        model: The model, not wrapped for distributed training.
        weights: Its state dict, or that of another model.

    Returns:
        How the weights fit. Counters of batches seen by normalisation layers do not count.
    """
    weights = _copy(weights)
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
        fitting=len(counted) - len(missing) - len(mismatched),
        missing=missing,
        unexpected=list(result.unexpected_keys),
        mismatched=mismatched,
    )


def _copy(weights: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    copied = OrderedDict(weights)
    copied._metadata = getattr(weights, '_metadata', OrderedDict())
    return copied


def require_complete(comparison: WeightComparison, filename: str, config: str) -> None:
    """Refuse weights of another model where exactly this model's are meant.

    Args:
        comparison: How the weights fit.
        filename: The checkpoint, for the message.
        config: The config the model was built from, for the message.

    Raises:
        CibaError: Something is missing, left over or of another shape.
    """
    if not comparison.is_complete:
        raise CibaError(
            f'{filename}: this checkpoint is not one of the model in {config}.\n'
            f'{comparison.describe()}\n'
            'Give the config it was trained with (the copy in its work directory), or a checkpoint '
            'of this config.'
        )


def require_half(comparison: WeightComparison, filename: str, purpose: str) -> None:
    """Refuse weights to start from that fill less than half of what they are loaded into.

    Args:
        comparison: How the weights fit.
        filename: The checkpoint, for the message.
        purpose: What asked for it, such as a config field.

    Raises:
        CibaError: Nothing fits, or less than half.
    """
    if not comparison.covers_half:
        raise CibaError(
            f'{filename}: {purpose} would start from almost nothing of this checkpoint.\n'
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
    """Hold the weights that parts of a model ask to start from against these parts.

    mmengine itself passes over names that do not fit. The model is not changed.

    Args:
        model: A model whose parts may carry ``init_cfg=dict(type='Pretrained', ...)``.

    Raises:
        CibaError: Such a file is missing, unreadable, or fills less than half of its part.
    """
    for name, part in model.named_modules():
        init_configs = getattr(part, 'init_cfg', None) or []
        for init_config in init_configs if isinstance(init_configs, list) else [init_configs]:
            if init_config.get('type') != 'Pretrained' or not init_config.get('checkpoint'):
                continue
            filename = init_config['checkpoint']
            if init_config.get('parts'):
                # They are loaded by `parts.load_parts`, which accepts nothing but whole parts.
                continue
            weights = weights_of(CheckpointLoader.load_checkpoint(filename, 'cpu'))
            prefix = init_config.get('prefix')
            if prefix:
                prefix = prefix if prefix.endswith('.') else f'{prefix}.'
                weights = weights_of(
                    {key[len(prefix) :]: w for key, w in weights.items() if key.startswith(prefix)}
                )
            require_half(compare_weights(part, weights), filename, f'model.{name}.init_cfg')


def compare_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> WeightComparison:
    """How weights fit a model by name and shape, without loading them.

    Args:
        model: The model.
        weights: A state dict.

    Returns:
        How they fit.
    """
    own = {
        name: tuple(value.shape)
        for name, value in model.state_dict().items()
        if not name.endswith('num_batches_tracked')
    }
    mismatched = [n for n, shape in own.items() if n in weights and weights[n].shape != shape]
    missing = [name for name in own if name not in weights]
    return WeightComparison(
        fitting=len(own) - len(missing) - len(mismatched),
        missing=missing,
        unexpected=[
            name for name in weights if name not in own and not name.endswith('num_batches_tracked')
        ],
        mismatched=mismatched,
    )
