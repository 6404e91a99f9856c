"""The body of tools/convert_checkpoint.py: convert published weights for this project's configs."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from ..errors import CibaError, exit_with_message
from ..files import atomic_write, require_not_read
from ..registry import MODELS as MODEL_REGISTRY
from .files import load_from_file
from .matching import get_state_dict, load_weights, require_complete
from .published import (
    FCOS3D,
    MODELS,
    NEW_BOXES,
    OLD_BOXES,
    ConvertedWeights,
    convert_weights,
    has_old_boxes,
)

# Key of the conversion's metadata in a converted file.
METADATA_KEY = 'ciba_bev_conversion'
_CONVENTIONS = {'old': OLD_BOXES, 'new': NEW_BOXES}


def convert_checkpoint(
    source: str,
    destination: str,
    model: str,
    boxes: str | None = None,
    config: str | None = None,
) -> ConvertedWeights:
    """Convert a published checkpoint.

    Args:
        source: The published file.
        destination: The file to write, atomically, with ``state_dict`` and ``meta``.
        model: One of :data:`~.published.MODELS`.
        boxes: Box convention of ``source``, ``'old'`` (mmdet3d < 1.0) or ``'new'``; None to read it
            from the file.
        config: A config whose model must accept the result; None for no check.

    Returns:
        The weights and a description of the changes.

    Raises:
        CibaError: The file is unreadable, converted already, needs no conversion, or is of another
            architecture than ``model`` or ``config``; or ``destination`` is one of the input files,
            or cannot be written.
    """
    require_not_read(destination, source, config)
    content = load_from_file(source)
    meta = content.get('meta') or {}
    earlier = meta.get(METADATA_KEY)
    if earlier is not None:
        raise CibaError(
            f'{source}: this file has been converted already, from {earlier["source"]} (--model '
            f'{earlier["model"]}, boxes of {earlier["box_convention"]}). Load it as it is.'
        )
    weights = get_state_dict(content, revise_keys=())
    if not weights:
        raise CibaError(f'{source}: contains no weights.')
    old_boxes, reason = has_old_boxes(meta)
    if boxes is not None:
        old_boxes, reason = boxes == 'old', f'as --boxes {boxes} says'
    try:
        converted = convert_weights(weights, model, old_boxes, meta.get('CLASSES'))
    except CibaError as error:
        raise CibaError(f'{source}: {error}') from error
    has_boxes = MODELS[model] != FCOS3D
    if not converted.changes:
        boxes_too = f' and boxes ({reason}; if not, give --boxes old)' if has_boxes else ''
        raise CibaError(
            f'{source}: there is nothing to convert. It has the names{boxes_too} that the '
            'configs expect. Load it as it is.'
        )
    if has_boxes:
        convention = _CONVENTIONS['old' if old_boxes else 'new']
        converted.notes.insert(0, f'Boxes of the source: {convention}, {reason}.')
    if config is not None:
        _check(converted, config, source)
    metadata = dict(
        source=Path(source).name,
        model=model,
        box_convention=NEW_BOXES,
        boxes_converted=converted.boxes_converted,
    )
    with atomic_write(destination) as partial:
        torch.save(dict(state_dict=converted.weights, meta={METADATA_KEY: metadata}), partial)
    return converted


def _check(converted: ConvertedWeights, config: str, source: str) -> None:
    """Check that the model of a config accepts all weights."""
    cfg = Config.fromfile(config)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    comparison = load_weights(MODEL_REGISTRY.build(cfg.model), converted.weights)
    # For an image backbone, the rest of the model may be missing.
    modules = {name.split('.')[0] for name in converted.weights}
    comparison.missing = [name for name in comparison.missing if name.split('.')[0] in modules]
    require_complete(comparison, source, config)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line of tools/convert_checkpoint.py.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    parser = argparse.ArgumentParser(
        description='Convert published weights for the configs of this project: parameter names of '
        'its models, box convention of mmdet3d 1.0.'
    )
    parser.add_argument('source', metavar='SRC', help='the published file')
    parser.add_argument('destination', metavar='DST', help='file to write')
    parser.add_argument('--model', required=True, choices=list(MODELS), help='model of SRC')
    parser.add_argument(
        '--boxes',
        choices=list(_CONVENTIONS),
        help='box convention of SRC: old (mmdet3d < 1.0) or new (default: as its meta states, or '
        "old). Files in OpenMMLab's folder v1.0.0_models are always new",
    )
    parser.add_argument('--config', help='check that the model of this config accepts the result')
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run tools/convert_checkpoint.py.

    Args:
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_args(arguments)

    def run() -> None:
        converted = convert_checkpoint(
            args.source, args.destination, args.model, args.boxes, args.config
        )
        print(
            f'{args.destination}: {len(converted.weights)} entries; {", ".join(converted.changes)}.'
        )
        for note in converted.notes:
            print(note)

    exit_with_message(run, args.traceback)
