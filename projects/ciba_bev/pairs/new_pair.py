"""The body of tools/new_pair.py: find the taps of two models, write the configs that join them."""

from __future__ import annotations

import argparse
import copy
import logging
import os
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
from ..engine.config_options import move_root
from ..errors import CibaError, exit_with_message
from ..files import make_folder, require_not_read, write_file
from ..shell import shell_command
from .config_writing import Source, differences, write_fields
from .data import PairModel, add_inputs, first_batch, read_features_only, require_same_form
from .tap_finder import TapCandidate, TapFinder, cell_size, closest_cell_size, query_counts

BOTTLENECK_SIZES = (2, 4, 8, 16, 32, 64, 128)
# The best of the paper's Table 2.
CHOSEN_SIZE = 4
BOTTLENECK_EPOCHS = 3
LISTED_TAPS = 10

_PACKAGE = __package__.rsplit('.', 1)[0]
_RANGE_FIELDS = ('point_cloud_range', 'pc_range')
_OWN_HOOKS = ('LossAveragingHook', 'DistillationRecordHook', 'SpectrumHook')


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line of tools/new_pair.py.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    parser = argparse.ArgumentParser(
        description='List what could be tapped in two models and write three configs that distil '
        'the one into the other: bottleneck training, CIBA, and MSE to compare with.'
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
        help="fields to override in both configs' data, data_root=DIR wherever it is used; the "
        'written configs keep them',
    )
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    return parser.parse_args(arguments)


def examine(
    role: str, config: str, checkpoint: str | None, options: dict[str, Any] | None = None
) -> PairModel:
    """Build a config's model and run it on one batch of the config's data.

    Args:
        role: ``'teacher'`` or ``'student'``.
        config: The config file.
        checkpoint: Its trained weights; None for where its training will leave them.
        options: Fields to override.

    Returns:
        What was found.

    Raises:
        CibaError: The config cannot be read, or there are no data and none can be made up.
    """
    cfg = read_config(config, role, options)
    extent, field = find_extent(cfg)
    with MODELS.switch_scope_and_registry(cfg.get('default_scope')) as registry:
        model: nn.Module = registry.build(cfg.model)
    model.eval()
    batch, real = first_batch(cfg, role, config)
    if not isinstance(batch['inputs'], dict):
        raise CibaError(
            f'{config}: the data set gives the {role} its input as a '
            f'{type(batch["inputs"]).__name__}, and a pair needs inputs by name, as in '
            'dict(img=..., points=...), to give each model its own.'
        )
    finder = TapFinder(model, extent, list(query_counts(cfg.model)))
    preprocessed = model.data_preprocessor(copy.deepcopy(batch), False)
    candidates = finder.run(preprocessed)
    if checkpoint is None:
        checkpoint = expected_checkpoint(cfg, config)
    return PairModel(role, config, checkpoint, cfg, batch, finder, candidates, extent, field, real)


def read_config(config: str, role: str, options: dict[str, Any] | None = None) -> Config:
    """Read one of the two configs.

    Args:
        config: The file.
        role: Whose it is, for messages.
        options: Fields to override; a new ``data_root`` replaces the old one in every path.

    Returns:
        The config.

    Raises:
        CibaError: There is no such file, it is no config or has no model, or an option would
            change the model.
    """
    if not Path(config).is_file():
        raise CibaError(f'{role}: there is no config {config}.')
    try:
        cfg = Config.fromfile(config)
    except (SyntaxError, OSError, KeyError, TypeError, NameError, AttributeError) as error:
        raise CibaError(f'{config}: not a valid config: {type(error).__name__}: {error}') from error
    if not cfg.get('model'):
        raise CibaError(f'{config}: has no model; the {role} must be a config that trains one.')
    options = options or {}
    if any(key.split('.')[0] == 'model' for key in options):
        raise CibaError(
            '--cfg-options cannot change a model here: the written configs name the two models by '
            'their files. Write the change into a config of its own and give that.'
        )
    old_root = cfg.get('data_root')
    cfg.merge_from_dict(options)
    if old_root and cfg.data_root != old_root:
        move_root(cfg, old_root, cfg.data_root)
    return cfg


def find_extent(cfg: Config) -> tuple[list[float] | None, str]:
    """The ground that a model's maps cover, from the point-cloud range in its config.

    Args:
        cfg: The config. The model's own range counts first, then the config's, then its data's.

    Returns:
        (x_min, y_min, x_max, y_max) in metres and the field it is from; None if there is none.
    """
    data = {key: cfg[key] for key in ('val_dataloader', 'train_dataloader') if cfg.get(key)}
    top = {key: cfg[key] for key in _RANGE_FIELDS if cfg.get(key)}
    for tree, name in ((cfg.model, 'model'), (top, ''), (data, '')):
        for field, bounds in _ranges_in(tree, name):
            return [float(bounds[index]) for index in (0, 1, 3, 4)], field
    return None, ''


def _ranges_in(tree: Any, name: str) -> list[tuple[str, Sequence[float]]]:
    found = []
    items: Any = []
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, (list, tuple)):
        items = enumerate(tree)
    for key, value in items:
        field = f'{name}.{key}' if name else str(key)
        if key in _RANGE_FIELDS and isinstance(value, (list, tuple)) and len(value) == 6:
            found.append((field, value))
        else:
            found += _ranges_in(value, field)
    return found


def expected_checkpoint(cfg: Config, config: str) -> str:
    """Where the training of a config leaves its last weights.

    Args:
        cfg: The config.
        config: Its file.

    Returns:
        The checkpoint, under the config's work folder.
    """
    folder = cfg.get('work_dir') or f'work_dirs/{Path(config).stem}'
    schedule = cfg.get('train_cfg') or {}
    if schedule.get('max_iters') and not schedule.get('max_epochs'):
        return f'{folder}/iter_{schedule["max_iters"]}.pth'
    return f'{folder}/epoch_{schedule.get("max_epochs", 1)}.pth'


def choose_taps(
    teacher: PairModel, student: PairModel, teacher_tap: str | None, student_tap: str | None
) -> tuple[TapCandidate, TapCandidate]:
    """Decide where the two models are tapped.

    Args:
        teacher: The examined teacher.
        student: The examined student.
        teacher_tap: What was asked for; None for the map that the teacher's head reads whose cells
            are nearest in size to the student's.
        student_tap: What was asked for; None for the finest map that the student's head reads.

    Returns:
        The teacher's tap and the student's.

    Raises:
        CibaError: There is none, not the one asked for, or the two cannot be lined up in space.
    """
    for side, asked in ((teacher, teacher_tap), (student, student_tap)):
        if asked is None and not side.candidates:
            raise CibaError(
                f'{side.config}: nothing in the {side.role} could be tapped: found no map (B, C, '
                'rows, columns) and no tokens (B, rows * columns, C) with '
                + (
                    f'the proportions of {side.extent_field}.'
                    if side.extent
                    else 'a point_cloud_range in the config to compare with.'
                )
            )
    chosen_student = (
        student.finder.look_up(student_tap, student.candidates)
        if student_tap
        else student.candidates[0]
    )
    chosen_teacher = (
        teacher.finder.look_up(teacher_tap, teacher.candidates)
        if teacher_tap
        else closest_cell_size(teacher.candidates, teacher.extent, chosen_student, student.extent)
    )
    _require_known_ground(teacher, chosen_teacher, student, chosen_student)
    _require_alignment(teacher, chosen_teacher, student, chosen_student)
    return chosen_teacher, chosen_student


def _require_known_ground(
    teacher: PairModel, teacher_tap: TapCandidate, student: PairModel, student_tap: TapCandidate
) -> None:
    """Refuse to compare a map on the ground with one that may be of something else, an image."""
    if not (teacher_tap.grid and student_tap.grid):
        return
    for side, tap, other in ((teacher, teacher_tap, student), (student, student_tap, teacher)):
        if side.extent is None and other.extent is not None:
            raise CibaError(
                f'{side.config}: has no point_cloud_range, so that nothing says which ground the '
                f"{side.role}'s map at {tap.name} ({' x '.join(map(str, tap.grid))}) covers; the "
                f"{other.role}'s covers {_metres(other.extent)}. If it is a map of the image and "
                'not of the ground, the model has none to distil; else state its range at the top '
                'of that config: point_cloud_range = [x_min, y_min, z_min, x_max, y_max, z_max].'
            )


def _require_alignment(
    teacher: PairModel, teacher_tap: TapCandidate, student: PairModel, student_tap: TapCandidate
) -> None:
    """Let the alignment itself say whether the two taps can be lined up."""
    maps, taps = [], []
    for side, chosen in ((teacher, teacher_tap), (student, student_tap)):
        maps.append(torch.zeros(1, 1, *chosen.grid))
        taps.append(FeatureTap(**chosen.arguments(side.extent)))
    align_to_student(*maps, *taps)


def show_candidates(side: PairModel, chosen: TapCandidate | None, console: Console) -> None:
    """Print the taps of one model that could serve.

    Args:
        side: The examined model.
        chosen: The one that is used; None if that could not be decided.
        console: Where to print.
    """
    covered = 'no point_cloud_range in the config'
    if side.extent:
        covered = f'{_metres(side.extent)} from {side.extent_field}'
    batch = 'one batch of its data' if side.data_are_real else 'a made-up batch: no data there'
    # Paths and taps are there to be copied: none is broken at the width of the terminal.
    console.print(f'\n{side.role}: {side.config}', markup=False, highlight=False, soft_wrap=True)
    console.print(f'{covered}; {batch}', markup=False, highlight=False, soft_wrap=True)
    listed = side.candidates[:LISTED_TAPS]
    if chosen is not None and chosen.name not in [candidate.name for candidate in listed]:
        listed = [chosen, *listed]
    rows = [('', 'tap', 'shape', 'layout', 'grid', 'cell')]
    for candidate in listed:
        size = ''
        if candidate.grid and side.extent:
            size = f'{cell_size(candidate.grid, side.extent):.3g} m'
        rows.append(
            (
                '→' if chosen is not None and candidate.name == chosen.name else '',
                candidate.name,
                ' x '.join(map(str, candidate.shape)),
                candidate.layout,
                ' x '.join(map(str, candidate.grid)),
                size,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        line = '  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    left_out = len(side.candidates) - LISTED_TAPS
    if left_out > 0:
        console.print(f'{left_out} more lie deeper in the model; any can be named.')
    if side.finder.stopped_by is not None:
        error = side.finder.stopped_by
        console.print(
            f'The untrained model ended with {type(error).__name__} behind these: {error}',
            markup=False,
        )


def _metres(extent: Sequence[float]) -> str:
    x_min, y_min, x_max, y_max = extent
    return f'x {x_min:g}..{x_max:g} m, y {y_min:g}..{y_max:g} m'


def make_configs(
    name: str,
    out: Path,
    teacher: PairModel,
    student: PairModel,
    teacher_tap: TapCandidate,
    student_tap: TapCandidate,
) -> dict[str, str]:
    """The texts of the configs of a pair.

    Args:
        name: Of the pair.
        out: Folder they will be in.
        teacher: The examined teacher.
        student: The examined student.
        teacher_tap: Where the teacher is tapped.
        student_tap: Where the student is tapped.

    Returns:
        File name to text: CIBA, bottleneck training, and MSE if both features have as many
        channels, without which there is nothing to subtract.

    Raises:
        CibaError: The teacher needs an input that cannot be added to the student's data.
    """
    names = {
        'ciba': f'ciba_{name}_h{CHOSEN_SIZE}',
        'bottleneck': f'bottleneck_{name}',
        'mse': f'mse_{name}',
    }
    base = Config.fromfile(student.config)
    wanted = _distillation_config(names, out, teacher, student, teacher_tap, student_tap)
    texts = {
        f'{names["ciba"]}.py': _text(
            f"CIBA: the student's first {CHOSEN_SIZE} channels imitate a code of the teacher's.\n\n"
            f'Teacher: {teacher.config}\nStudent: {student.config}\n'
            'Written by tools/new_pair.py.\n',
            _relative(student.config, out),
            differences(base.to_dict(), wanted),
        )
    }
    bottleneck = _bottleneck_config(wanted, student, teacher, teacher_tap, student_tap)
    texts[f'{names["bottleneck"]}.py'] = _text(
        'Algorithm 1: bottlenecks of several sizes for this pair, in one run.',
        f'{names["ciba"]}.py',
        differences(wanted, bottleneck),
    )
    if teacher_tap.channels == student_tap.channels:
        texts[f'{names["mse"]}.py'] = _text(
            'MSE: the student imitates all channels of the teacher, to compare with.',
            f'{names["ciba"]}.py',
            dict(model=dict(bottleneck=None)),
        )
    return texts


def _distillation_config(
    names: dict[str, str],
    out: Path,
    teacher: PairModel,
    student: PairModel,
    teacher_tap: TapCandidate,
    student_tap: TapCandidate,
) -> dict[str, Any]:
    """All fields of the config of CIBA."""
    wanted = copy.deepcopy(student.cfg.to_dict())
    wanted['model'] = dict(
        type='ciba_bev.Distiller',
        student=Source('{{_base_.model}}'),
        student_inputs=student.inputs,
        student_tap=student_tap.arguments(student.extent),
        teacher=dict(
            config=teacher.config,
            checkpoint=teacher.checkpoint,
            inputs=teacher.inputs,
            tap=teacher_tap.arguments(teacher.extent),
        ),
        bottleneck=dict(
            config=str(out / f'{names["bottleneck"]}.py'),
            checkpoint=f'work_dirs/{names["bottleneck"]}/epoch_{BOTTLENECK_EPOCHS}.pth',
            size=CHOSEN_SIZE,
        ),
    )
    add_inputs(wanted['train_dataloader'], student, teacher)
    imports = (wanted.get('custom_imports') or {}).get('imports', [])
    imports = [imports] if isinstance(imports, str) else list(imports)
    imports += [_PACKAGE] if _PACKAGE not in imports else []
    wanted['custom_imports'] = dict(imports=imports, allow_failed_imports=False)
    hooks = list(wanted.get('custom_hooks') or [])
    wanted['custom_hooks'] = hooks + _missing_hooks(wanted, _OWN_HOOKS, hooks)
    return wanted


def _missing_hooks(
    config: dict[str, Any], names: Sequence[str], custom_hooks: Sequence[dict[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Those of the package's hooks that a config has neither by default nor among others."""
    hooks = [*(config.get('default_hooks') or {}).values(), *custom_hooks]
    present = {str(hook['type']).rsplit('.', 1)[-1] for hook in hooks if hook and 'type' in hook}
    return [dict(type=f'ciba_bev.{name}') for name in names if name not in present]


def _bottleneck_config(
    distillation: dict[str, Any],
    student: PairModel,
    teacher: PairModel,
    teacher_tap: TapCandidate,
    student_tap: TapCandidate,
) -> dict[str, Any]:
    """All fields of the config of Algorithm 1."""
    wanted = copy.deepcopy(distillation)
    wanted['model'] = dict(
        type='ciba_bev.BottleneckTraining',
        teacher=Source('{{_base_.model.teacher}}'),
        student=dict(
            config=student.config,
            checkpoint=student.checkpoint,
            inputs=student.inputs,
            tap=Source('{{_base_.model.student_tap}}'),
        ),
        bottleneck=dict(
            type='ciba_bev.VariationalBottleneck',
            in_channels=teacher_tap.channels,
            out_channels=student_tap.channels,
        ),
        bottleneck_sizes=[
            size
            for size in BOTTLENECK_SIZES
            if size <= min(teacher_tap.channels, student_tap.channels)
        ],
    )
    evaluator = dict(type='ciba_bev.BottleneckMetric')
    wanted['val_dataloader'] = copy.deepcopy(student.cfg.val_dataloader.to_dict())
    add_inputs(wanted['val_dataloader'], student, teacher)
    read_features_only(wanted['train_dataloader'], wanted['val_dataloader'])
    wanted['test_dataloader'] = wanted['val_dataloader']
    wanted['val_evaluator'] = wanted['test_evaluator'] = evaluator
    wanted['optim_wrapper'] = dict(
        type='ciba_bev.BottleneckOptimWrapper',
        constructor='ciba_bev.BottleneckOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01),
        clip_grad=dict(max_norm=35, norm_type=2),
    )
    wanted['param_scheduler'] = [
        dict(type='LinearLR', start_factor=0.1, begin=0, end=200, by_epoch=False),
        dict(
            type='CosineAnnealingLR',
            T_max=BOTTLENECK_EPOCHS,
            eta_min_ratio=1e-2,
            begin=0,
            end=BOTTLENECK_EPOCHS,
            by_epoch=True,
            convert_to_iter_based=True,
        ),
    ]
    wanted['train_cfg'] = dict(
        type='EpochBasedTrainLoop', max_epochs=BOTTLENECK_EPOCHS, val_interval=1
    )
    # None of the distillation's: no student is trained.
    wanted['custom_hooks'] = _missing_hooks(wanted, _OWN_HOOKS[:2])
    return wanted


def _text(title: str, base: str, fields: dict[str, Any]) -> str:
    if fields.get('test_dataloader') == fields.get('val_dataloader'):
        fields = _alias(fields, 'test_dataloader', 'val_dataloader')
    if fields.get('test_evaluator') == fields.get('val_evaluator'):
        fields = _alias(fields, 'test_evaluator', 'val_evaluator')
    return f'"""{title}"""\n\n_base_ = [{base!r}]\n\n{write_fields(fields)}'.rstrip('\n')


def _alias(fields: dict[str, Any], name: str, same: str) -> dict[str, Any]:
    """The same fields, one of which is written as the name of another before it."""
    if name not in fields:
        return fields
    others = {key: value for key, value in fields.items() if key != name}
    written: dict[str, Any] = {}
    for key, value in others.items():
        written[key] = value
        if key == same:
            written[name] = Source(same)
    return written


def _relative(config: str, out: Path) -> str:
    """How a config in ``out`` names another as its base."""
    path = Path(config).resolve()
    inside = Path.cwd() in path.parents
    return os.path.relpath(path, out.resolve()) if inside else str(path)


def create_pair(args: argparse.Namespace, console: Console) -> list[Path]:
    """Examine two models, print what was found, and write the configs.

    Args:
        args: Arguments from :func:`parse_args`.
        console: Where to print.

    Returns:
        The files.

    Raises:
        CibaError: See :func:`examine`, :func:`choose_taps` and :func:`make_configs`.
    """
    read_checkpoints_safely()
    # What data sets and layers say of themselves while they are built is not asked for here.
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        teacher = examine('teacher', args.teacher, args.teacher_checkpoint, args.cfg_options)
        student = examine('student', args.student, args.student_checkpoint, args.cfg_options)
    try:
        teacher_tap, student_tap = choose_taps(teacher, student, args.teacher_tap, args.student_tap)
    except CibaError:
        # To choose others, they must be seen.
        for side in (teacher, student):
            show_candidates(side, None, console)
        raise
    show_candidates(teacher, teacher_tap, console)
    show_candidates(student, student_tap, console)
    require_same_form(teacher, student)

    out = Path(args.out)
    name = args.name or f'{Path(args.teacher).stem}_to_{Path(args.student).stem}'
    texts = make_configs(name, out, teacher, student, teacher_tap, student_tap)
    make_folder(out)
    for file_name in texts:
        require_not_read(out / file_name, args.teacher, args.student)
    files = []
    for file_name, text in texts.items():
        write_file(out / file_name, f'{text}\n')
        files.append(out / file_name)
    if len(files) < 3:
        console.print(
            f"No MSE config: the teacher's feature has {teacher_tap.channels} channels and the "
            f"student's {student_tap.channels}; plain MSE compares equal widths. CIBA needs none."
        )
    _show_commands(files, teacher, student, console)
    return files


def _show_commands(
    files: list[Path], teacher: PairModel, student: PairModel, console: Console
) -> None:
    ciba, bottleneck = files[:2]
    steps = [
        (f'the {side.role}, whose weights are not at {side.checkpoint}', 'train', side.config)
        for side in (teacher, student)
        if '://' not in side.checkpoint and not Path(side.checkpoint).is_file()
    ]
    steps += [
        (
            'Algorithm 1: bottlenecks of several sizes H, of which it proposes one',
            'train',
            bottleneck,
        ),
        (f'Algorithm 2 with H = {CHOSEN_SIZE}', 'train', ciba),
        *[('plain MSE, to compare with', 'train', file) for file in files[2:]],
    ]
    last = Path(expected_checkpoint(student.cfg, str(ciba))).name
    weights = f'work_dirs/{ciba.stem}/{last}'
    steps.append(('the distilled student, a plain student', 'test', student.config, weights))
    console.print('\nWritten:')
    for file in files:
        console.print(f'  {file}', markup=False, highlight=False, soft_wrap=True)
    console.print('Run, in this order:')
    for remark, tool, *words in steps:
        command = shell_command('python', _tool(tool), *words)
        console.print(f'  # {remark}', markup=False, highlight=False, soft_wrap=True)
        console.print(f'  {command}', markup=False, highlight=False, soft_wrap=True)


def _tool(name: str) -> str:
    """Another of the command lines, as it is called from here: those beside the running one."""
    beside = Path(sys.argv[0]).parent / f'{name}.py'
    return str(beside) if beside.is_file() else f'tools/{name}.py'


def main(arguments: list[str] | None = None) -> None:
    """Run tools/new_pair.py.

    Args:
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_args(arguments)
    exit_with_message(lambda: create_pair(args, Console()) and None, args.traceback)
