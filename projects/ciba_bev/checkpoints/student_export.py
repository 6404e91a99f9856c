"""The body of tools/export_student.py: export the weights of a student for deployment."""

from __future__ import annotations

import argparse
import os
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from ..errors import CibaError, exit_with_message
from ..files import atomic_write, require_not_read
from ..registry import MODELS
from .files import load_from_file
from .matching import compare_weights, get_state_dict, require_complete

# Metadata of a training that describe the origin of the weights.
_KEPT_META = ('cfg', 'dataset_meta', 'epoch', 'iter', 'seed', 'experiment_name', 'time')


def export_student(checkpoint: str, out: str, config: str | None = None) -> dict[str, Any]:
    """Write the weights of a student, without the state that only training needs.

    Args:
        checkpoint: A checkpoint of a training with or without distillation.
        out: The file to write, atomically.
        config: Config of the plain student, to compare the weights with; None for no check.

    Returns:
        The content of the file: ``state_dict``, ``meta`` and, if it was distilled,
        ``distillation``.

    Raises:
        CibaError: The checkpoint is unreadable, contains no student, or is not one of ``config``;
            or ``out`` is one of the input files, or cannot be written.
    """
    require_not_read(out, checkpoint, config)
    content = load_from_file(checkpoint)
    metadata = content.get('distillation')
    if metadata is not None and metadata.get('kind') == 'bottlenecks':
        raise CibaError(
            f'{checkpoint} contains bottlenecks (Algorithm 1), no student. Give a checkpoint of a '
            'distillation run, such as work_dirs/ciba_bevformer_r50_h4/epoch_24.pth.'
        )
    weights = get_state_dict(content)
    if not weights:
        raise CibaError(f'{checkpoint}: contains no weights.')
    if config is not None:
        cfg = Config.fromfile(config)
        init_default_scope(cfg.get('default_scope', 'mmengine'))
        model = MODELS.build(cfg.model)
        require_complete(compare_weights(model, weights), checkpoint, config)
    meta = content.get('meta', {})
    exported = {
        'meta': {key: meta[key] for key in _KEPT_META if key in meta},
        'state_dict': weights,
    }
    if metadata is not None:
        exported['distillation'] = metadata
    with atomic_write(out) as partial:
        torch.save(exported, partial)
    return exported


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line of tools/export_student.py.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    parser = argparse.ArgumentParser(
        description='Write the weights of a trained student without optimizer state and logs '
        '(the teacher is never saved).'
    )
    parser.add_argument('checkpoint', help='checkpoint of a distillation or a plain training')
    parser.add_argument('out', help='file to write')
    parser.add_argument(
        '--config', help="the plain student's config; the weights are checked against it"
    )
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run tools/export_student.py.

    Args:
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_args(arguments)

    def run() -> None:
        exported = export_student(args.checkpoint, args.out, args.config)
        before, after = (os.path.getsize(path) / 2**20 for path in (args.checkpoint, args.out))
        method = exported.get('distillation', {}).get('method', 'none')
        count = sum(value.numel() for value in exported['state_dict'].values())
        print(
            f'{args.out}: {count:,} numbers, {after:.1f} MB (from {before:.1f} MB); '
            f'distillation: {method}'
        )

    exit_with_message(run, args.traceback)
