"""The three configs of a pair: CIBA, bottleneck training (Algorithm 1), and MSE."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any, Sequence, Tuple

from mmengine.config import Config

from ..engine.config_options import read_config_file
from .config_writing import Source, differences, write_fields
from .data import PairModel, add_inputs, read_features_only
from .tap_finder import TapCandidate

CODE_SIZE = 4  # H, the best of the paper's Table 2
BOTTLENECK_SIZES = (2, 4, 8, 16, 32, 64, 128)
BOTTLENECK_EPOCHS = 3

_PACKAGE = __package__.rsplit('.', 1)[0]
# The package's own copy of configs/, see pyproject.toml.
_BASES = Path(__file__).parents[1].joinpath('.mim', 'configs', 'configs', '_base_')
_HOOKS = ('LossAveragingHook', 'DistillationRecordHook', 'SpectrumHook')

TappedModel = Tuple[PairModel, TapCandidate]


def make_configs(
    name: str, out: Path, teacher: TappedModel, student: TappedModel
) -> dict[str, str]:
    """Write the configs of a pair as text.

    Args:
        name: Of the pair.
        out: Folder that the files will be in.
        teacher: The teacher and its tap.
        student: The student and its tap.

    Returns:
        File name to text: CIBA, bottleneck training, and MSE if both features have the same number
        of channels.

    Raises:
        ConfigError: The student's data cannot be made to load an input of the teacher.
    """
    ciba_file, bottleneck_file = f'ciba_{name}_h{CODE_SIZE}.py', f'bottleneck_{name}.py'
    ciba = _ciba_config(str(out / bottleneck_file), teacher, student)
    bottleneck = _bottleneck_config(ciba, teacher, student)
    file = student[0].config
    base = read_config_file(file).to_dict()
    texts = {
        ciba_file: _text(
            f"CIBA: the student's first {CODE_SIZE} channels learn a code of the teacher's feature."
            f'\n\nTeacher: {teacher[0].config}\nStudent: {file}\nWritten by tools/new_pair.py.\n',
            _base_name(file, out),
            differences(base, ciba),
        ),
        bottleneck_file: _text(
            'Algorithm 1: bottlenecks of several sizes for this pair, in one run.',
            ciba_file,
            differences(ciba, bottleneck),
        ),
    }
    if teacher[1].channels == student[1].channels:
        texts[f'mse_{name}.py'] = _text(
            'MSE, for comparison: the student learns all channels of the teacher.',
            ciba_file,
            dict(model=dict(bottleneck=None)),
        )
    return texts


def _ciba_config(
    bottleneck_config: str, teacher: TappedModel, student: TappedModel
) -> dict[str, Any]:
    """Return all fields of the CIBA config."""
    (teacher_model, teacher_tap), (student_model, student_tap) = teacher, student
    config = copy.deepcopy(student_model.cfg.to_dict())
    config['model'] = dict(
        type='ciba_bev.Distiller',
        student=Source('{{_base_.model}}'),
        student_inputs=student_model.inputs,
        student_tap=student_tap.arguments(student_model.extent),
        teacher=dict(
            config=teacher_model.config,
            checkpoint=teacher_model.checkpoint,
            inputs=teacher_model.inputs,
            tap=teacher_tap.arguments(teacher_model.extent),
        ),
        bottleneck=dict(
            config=bottleneck_config,
            checkpoint=f'work_dirs/{Path(bottleneck_config).stem}/epoch_{BOTTLENECK_EPOCHS}.pth',
            size=CODE_SIZE,
        ),
    )
    add_inputs(config['train_dataloader'], student_model, teacher_model)
    imports = (config.get('custom_imports') or {}).get('imports', [])
    imports = [imports] if isinstance(imports, str) else list(imports)
    imports += [_PACKAGE] if _PACKAGE not in imports else []
    config['custom_imports'] = dict(imports=imports, allow_failed_imports=False)
    hooks = list(config.get('custom_hooks') or [])
    config['custom_hooks'] = hooks + _missing_hooks(config, _HOOKS, hooks)
    return config


def _missing_hooks(
    config: dict[str, Any], names: Sequence[str], custom_hooks: Sequence[dict[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Return those of the package's hooks that a config does not have yet."""
    hooks = [*(config.get('default_hooks') or {}).values(), *custom_hooks]
    present = {str(hook['type']).rsplit('.', 1)[-1] for hook in hooks if hook and 'type' in hook}
    return [dict(type=f'ciba_bev.{name}') for name in names if name not in present]


def _bottleneck_config(
    ciba: dict[str, Any], teacher: TappedModel, student: TappedModel
) -> dict[str, Any]:
    """Return all fields of the config of Algorithm 1."""
    (teacher_model, teacher_tap), (student_model, student_tap) = teacher, student
    config = copy.deepcopy(ciba)
    largest = min(teacher_tap.channels, student_tap.channels)
    config['model'] = dict(
        type='ciba_bev.BottleneckTraining',
        teacher=Source('{{_base_.model.teacher}}'),
        student=dict(
            config=student_model.config,
            checkpoint=student_model.checkpoint,
            inputs=student_model.inputs,
            tap=Source('{{_base_.model.student_tap}}'),
        ),
        bottleneck=dict(
            type='ciba_bev.VariationalBottleneck',
            in_channels=teacher_tap.channels,
            out_channels=student_tap.channels,
        ),
        bottleneck_sizes=[size for size in BOTTLENECK_SIZES if size <= largest],
    )
    config['val_dataloader'] = copy.deepcopy(student_model.cfg.val_dataloader.to_dict())
    add_inputs(config['val_dataloader'], student_model, teacher_model)
    read_features_only(config['train_dataloader'], config['val_dataloader'])
    config['test_dataloader'] = config['val_dataloader']
    config['val_evaluator'] = dict(type='ciba_bev.BottleneckMetric')
    config['test_evaluator'] = config['val_evaluator']
    epochs = BOTTLENECK_EPOCHS
    optimizer = Config.fromfile(_BASES / 'distillation' / 'bottleneck_optimizer.py')
    schedule = Config.fromfile(_BASES / 'schedules' / 'annealing.py').to_dict()
    config['optim_wrapper'] = optimizer.optim_wrapper.to_dict()
    config['param_scheduler'] = [
        dict(schedule['warm_up'], end=200),
        dict(schedule['cosine'], T_max=epochs, end=epochs),
    ]
    config['train_cfg'] = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=1)
    # The student's own hooks do not apply: no student is trained.
    config['custom_hooks'] = _missing_hooks(config, _HOOKS[:2])
    return config


def _text(title: str, base: str, fields: dict[str, Any]) -> str:
    """Return the text of a config file."""
    # What is used twice is written once.
    written: dict[str, Any] = {}
    for key, value in fields.items():
        twin = key.replace('test_', 'val_')
        if twin != key and value == fields.get(twin):
            continue
        written[key] = value
        other = key.replace('val_', 'test_')
        if other != key and value == fields.get(other):
            written[other] = Source(key)
    return f'"""{title}"""\n\n_base_ = [{base!r}]\n\n{write_fields(written)}'


def _base_name(config: str, out: Path) -> str:
    """Return how a config in ``out`` names another as its base."""
    path = Path(config).resolve()
    inside = Path.cwd() in path.parents
    return os.path.relpath(path, out.resolve()) if inside else str(path)
