"""The body of tools/new_pair.py: find the taps of two models and write the configs of the pair."""

from __future__ import annotations

import argparse
import copy
import logging
import sys
import warnings
from pathlib import Path
from typing import Any, Sequence

import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from rich.console import Console
from torch import nn

from ..checkpoints.files import read_checkpoints_safely
from ..distillation.taps import FeatureTap, align_to_student
from ..engine.config_checks.grids import RANGE_FIELDS
from ..engine.config_checks.nested import dicts_with
from ..engine.config_options import read_config_file
from ..errors import ConfigError, exit_with_message
from ..files import make_folder, require_not_read, write_file
from ..shell import shell_command
from .data import PairModel, first_batch, require_same_form
from .tap_finder import TapCandidate, TapFinder, cell_size, closest_cell_size, query_counts
from .templates import CODE_SIZE, make_configs

_LISTED_TAPS = 10


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line of tools/new_pair.py.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    parser = argparse.ArgumentParser(
        description='List the features of two models that can be tapped, and write three configs '
        'that distil one model into the other: bottleneck training, CIBA, and MSE for comparison.'
    )
    parser.add_argument('teacher', metavar='TEACHER_CFG', help='config of the trained teacher')
    parser.add_argument('student', metavar='STUDENT_CFG', help='config that trains the student')
    for role in ('teacher', 'student'):
        parser.add_argument(
            f'--{role}-tap',
            metavar='MODULE[:input][:INDEX]',
            help=f'where the {role} is tapped, as listed (default: the best guess)',
        )
        parser.add_argument(
            f'--{role}-checkpoint',
            metavar='FILE',
            help=f"the {role}'s trained weights (default: the last epoch in its work folder)",
        )
    parser.add_argument(
        '--out', default='configs', help='folder for the configs (default: configs)'
    )
    parser.add_argument(
        '--name', help='of the pair in file names (default: <teacher>_to_<student>)'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help="fields to override in both configs' data, as in data_root=DIR; the written configs "
        'keep them',
    )
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    return parser.parse_args(arguments)


def examine(
    role: str, config: str, checkpoint: str | None, options: dict[str, Any] | None = None
) -> PairModel:
    """Build the model of a config and run it on one batch of the config's data.

    Args:
        role: ``'teacher'`` or ``'student'``.
        config: The config file.
        checkpoint: File with its trained weights; None for the last one that its training writes.
        options: Fields to override; not of the model.

    Returns:
        The model with its batch and the features that can be tapped.

    Raises:
        CibaError: The config cannot be read, its data do not exist, or its model does not run.
    """
    if any(key.split('.')[0] == 'model' for key in options or {}):
        raise ConfigError(
            '--cfg-options cannot change a model here: the written configs name the two models by '
            'their files. Write the change into a config of its own and give that.'
        )
    cfg = read_config_file(config, options)
    if not cfg.get('model'):
        raise ConfigError(f'{config}: has no model; the {role} must be a config that trains one.')
    extent, field = find_extent(cfg)
    with MODELS.switch_scope_and_registry(cfg.get('default_scope')) as registry:
        model: nn.Module = registry.build(cfg.model)
    model.eval()
    batch = first_batch(cfg, role, config)
    if not isinstance(batch['inputs'], dict):
        raise ConfigError(
            f'{config}: the data set gives the {role} its input as a '
            f'{type(batch["inputs"]).__name__}, and a pair needs inputs by name, as in '
            'dict(img=..., points=...), to give each model its own.'
        )
    finder = TapFinder(model, extent, list(query_counts(cfg.model)))
    candidates = finder.run(model.data_preprocessor(copy.deepcopy(batch), False))
    checkpoint = checkpoint or last_checkpoint(cfg, config)
    return PairModel(role, config, checkpoint, cfg, batch, finder, candidates, extent, field)


def find_extent(cfg: Config) -> tuple[list[float] | None, str]:
    """Return the area that the BEV feature of a model covers, from its point-cloud range.

    Args:
        cfg: The config. A range in the model comes first, then one at the top of the config, then
            one in its data.

    Returns:
        (x_min, y_min, x_max, y_max) in metres and the field that states it; None and '' if none
        does.
    """
    trees: list[tuple[str, Any]] = [('model', cfg.model)]
    trees += [('', {key: cfg[key]}) for key in RANGE_FIELDS if cfg.get(key)]
    trees += [(key, cfg.get(key)) for key in ('val_dataloader', 'train_dataloader')]
    for name, tree in trees:
        for key in RANGE_FIELDS:
            for field, part in dicts_with(tree, key, name):
                bounds = part[key]
                if isinstance(bounds, (list, tuple)) and len(bounds) == 6:
                    extent = [float(bounds[index]) for index in (0, 1, 3, 4)]
                    return extent, f'{field}.{key}'.lstrip('.')
    return None, ''


def last_checkpoint(cfg: Config, config: str) -> str:
    """Return the last checkpoint that the training of a config writes.

    Args:
        cfg: The config.
        config: Its file.

    Returns:
        The path, in the config's work folder.
    """
    folder = cfg.get('work_dir') or f'work_dirs/{Path(config).stem}'
    schedule = cfg.get('train_cfg') or {}
    if schedule.get('max_iters') and not schedule.get('max_epochs'):
        return f'{folder}/iter_{schedule["max_iters"]}.pth'
    return f'{folder}/epoch_{schedule.get("max_epochs", 1)}.pth'


def choose_taps(
    teacher: PairModel, student: PairModel, teacher_tap: str | None, student_tap: str | None
) -> tuple[TapCandidate, TapCandidate]:
    """Choose where the two models are tapped.

    Args:
        teacher: The teacher.
        student: The student.
        teacher_tap: Name of the teacher's tap; None for the feature that its head reads whose cell
            size is nearest to the student's.
        student_tap: Name of the student's tap; None for the finest feature that its head reads.

    Returns:
        The teacher's tap and the student's.

    Raises:
        ConfigError: There is no such tap, or the two features cannot be aligned.
    """
    for model, name in ((teacher, teacher_tap), (student, student_tap)):
        if name is None and not model.candidates:
            proportions = (
                f'the proportions of {model.extent_field}.'
                if model.extent
                else 'a point_cloud_range in the config to compare with.'
            )
            raise ConfigError(
                f'{model.config}: nothing in the {model.role} could be tapped: found no feature '
                f'(B, C, rows, columns) and no tokens (B, rows * columns, C) with {proportions}'
            )
    if student_tap:
        of_student = student.finder.look_up(student_tap, student.candidates)
    else:
        of_student = student.candidates[0]
    if teacher_tap:
        of_teacher = teacher.finder.look_up(teacher_tap, teacher.candidates)
    else:
        of_teacher = closest_cell_size(
            teacher.candidates, teacher.extent, of_student, student.extent
        )
    _require_alignment((teacher, of_teacher), (student, of_student))
    return of_teacher, of_student


def _require_alignment(
    teacher: tuple[PairModel, TapCandidate], student: tuple[PairModel, TapCandidate]
) -> None:
    """Check that the grids of two taps can be aligned."""
    for (model, tap), (other, other_tap) in ((teacher, student), (student, teacher)):
        if tap.grid and other_tap.grid and model.extent is None and other.extent is not None:
            raise ConfigError(
                f'{model.config}: has no point_cloud_range, so that nothing says which area the '
                f"{model.role}'s feature at {tap.name} ({' x '.join(map(str, tap.grid))}) covers; "
                f"the {other.role}'s covers {_metres(other.extent)}. If it is a feature of the "
                'image, the model has no BEV feature to distil; else state its range at the top '
                'of that config: point_cloud_range = [x_min, y_min, z_min, x_max, y_max, z_max].'
            )
    features, taps = [], []
    for model, tap in (teacher, student):
        features.append(torch.zeros(1, 1, *tap.grid))
        taps.append(FeatureTap(**tap.arguments(model.extent)))
    align_to_student(*features, *taps)


def _metres(extent: Sequence[float]) -> str:
    x_min, y_min, x_max, y_max = extent
    return f'x {x_min:g}..{x_max:g} m, y {y_min:g}..{y_max:g} m'


def _print(console: Console, line: str) -> None:
    """Print a line as it is: paths and taps are copied from the terminal, so none is wrapped."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def show_candidates(model: PairModel, chosen: TapCandidate | None, console: Console) -> None:
    """Print the features of one model that can be tapped.

    Args:
        model: The model.
        chosen: The one that is used, which is marked; None if none could be chosen.
        console: Where to print.
    """
    covered = 'no point_cloud_range in the config'
    if model.extent:
        covered = f'{_metres(model.extent)} from {model.extent_field}'
    _print(console, f'\n{model.role}: {model.config}\n{covered}')
    listed = model.candidates[:_LISTED_TAPS]
    name = '' if chosen is None else chosen.name
    if chosen is not None and name not in [candidate.name for candidate in listed]:
        listed = [chosen, *listed]
    rows = [('', 'tap', 'shape', 'layout', 'grid', 'cell')]
    for candidate in listed:
        has_size = candidate.grid and model.extent
        rows.append(
            (
                '→' if candidate.name == name else '',
                candidate.name,
                ' x '.join(map(str, candidate.shape)),
                candidate.layout,
                ' x '.join(map(str, candidate.grid)),
                f'{cell_size(candidate.grid, model.extent):.3g} m' if has_size else '',
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        _print(console, '  '.join(c.ljust(width) for c, width in zip(row, widths)).rstrip())
    left_out = len(model.candidates) - _LISTED_TAPS
    if left_out > 0:
        _print(console, f'{left_out} more are deeper in the model; any of them can be named.')
    error = model.finder.stopped_by
    if error is not None:
        _print(console, f'The untrained model then stopped: {type(error).__name__}: {error}')


def create_pair(args: argparse.Namespace, console: Console) -> list[Path]:
    """Run two models, print the features that can be tapped, and write the configs.

    Args:
        args: Arguments from :func:`parse_args`.
        console: Where to print.

    Returns:
        The written files.

    Raises:
        CibaError: See :func:`examine`, :func:`choose_taps` and :func:`make_configs`.
    """
    read_checkpoints_safely()
    # Data sets and layers log at length while they are built.
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        teacher = examine('teacher', args.teacher, args.teacher_checkpoint, args.cfg_options)
        student = examine('student', args.student, args.student_checkpoint, args.cfg_options)
    taps: Sequence[TapCandidate | None] = (None, None)
    try:
        taps = choose_taps(teacher, student, args.teacher_tap, args.student_tap)
    finally:
        # Also after an error, to show which others can be named.
        for model, tap in zip((teacher, student), taps):
            show_candidates(model, tap, console)
    require_same_form(teacher, student)

    out = Path(args.out)
    name = args.name or f'{Path(args.teacher).stem}_to_{Path(args.student).stem}'
    texts = make_configs(name, out, (teacher, taps[0]), (student, taps[1]))
    make_folder(out)
    files = [out / file_name for file_name in texts]
    for file in files:
        require_not_read(file, args.teacher, args.student)
    for file, text in zip(files, texts.values()):
        write_file(file, text)
    if len(files) < 3:
        _print(
            console,
            f"No MSE config: the teacher's feature has {taps[0].channels} channels and the "
            f"student's {taps[1].channels}; plain MSE needs equal numbers. CIBA does not.",
        )
    _show_commands(files, teacher, student, console)
    return files


def _show_commands(
    files: list[Path], teacher: PairModel, student: PairModel, console: Console
) -> None:
    ciba, bottleneck = files[:2]
    steps: list[tuple[Any, ...]] = [
        (f'the {model.role}, whose weights are not at {model.checkpoint}', 'train', model.config)
        for model in (teacher, student)
        if '://' not in model.checkpoint and not Path(model.checkpoint).is_file()
    ]
    steps += [
        (
            'Algorithm 1: bottlenecks of several sizes H, of which it suggests one',
            'train',
            bottleneck,
        ),
        (f'Algorithm 2 with H = {CODE_SIZE}', 'train', ciba),
        *[('plain MSE, for comparison', 'train', file) for file in files[2:]],
    ]
    weights = f'work_dirs/{ciba.stem}/{Path(last_checkpoint(student.cfg, "")).name}'
    steps.append(('the distilled student, a plain student', 'test', student.config, weights))
    _print(console, '\n'.join(['\nWritten:', *(f'  {file}' for file in files)]))
    _print(console, 'Run, in this order:')
    for comment, tool, *words in steps:
        # The tool beside this one, if it runs as a file.
        path = Path(sys.argv[0]).parent / f'{tool}.py'
        command = shell_command('python', path if path.is_file() else f'tools/{tool}.py', *words)
        _print(console, f'  # {comment}\n  {command}')


def main(arguments: list[str] | None = None) -> None:
    """Run tools/new_pair.py.

    Args:
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_args(arguments)
    exit_with_message(lambda: create_pair(args, Console()) and None, args.traceback)
