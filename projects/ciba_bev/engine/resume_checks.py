"""Compare a checkpoint with the config of the training that it resumes.

mmengine takes schedules, optimizer settings and step counts from the checkpoint, and silently
ignores those of the config.
"""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any, Iterator

from mmengine.runner import EpochBasedTrainLoop

from ..errors import SharedError
from ..shell import shell_command

STEPS_KEY = 'steps'
_OPTIMIZER_SETTINGS = ('lr', 'weight_decay', 'momentum')
_NO_SETTINGS = ('self', 'args', 'kwargs', 'optimizer', 'last_step', 'verbose')


def describe_steps(runner: Any) -> dict[str, Any]:
    """Describe the steps of a training, for its checkpoints.

    Args:
        runner: The runner.

    Returns:
        ``steps_per_epoch``, ``processes`` and ``batch_size``.
    """
    return {
        'steps_per_epoch': len(runner.train_dataloader),
        'processes': runner.world_size,
        'batch_size': runner.train_dataloader.batch_size,
    }


def require_same_schedule(checkpoint: dict[str, Any], filename: str, runner: Any) -> None:
    """Check that batch size, schedules and optimizer settings are those of the checkpoint.

    Args:
        checkpoint: The checkpoint.
        filename: Its file, for the message.
        runner: The runner that resumes, with optimizer and schedulers of the config.

    Raises:
        SharedError: A setting differs; the message has both values.
    """
    differences = list(_steps(checkpoint, runner))
    if differences:
        remedy = (
            'Schedules count steps. Resume with the same total batch size, by as many processes '
            'or another train_dataloader.batch_size'
        )
    else:
        differences = [*_schedules(checkpoint, runner), *_optimizer(checkpoint, runner)]
        remedy = (
            'The checkpoint has priority over the config. Resume with the settings of the '
            'checkpoint'
        )
    if differences:
        command = shell_command(
            *('python', 'tools/train.py', runner.cfg.filename or 'CONFIG'),
            *('--work-dir', 'ANOTHER_FOLDER', '--cfg-options', f'load_from={filename}'),
        )
        listed = '\n'.join(differences)
        raise SharedError(
            f'{filename} was not written by a training of this config:\n{listed}\n{remedy}, or '
            f'start a new training from its weights:\n{command}'
        )


def _steps(checkpoint: dict[str, Any], runner: Any) -> Iterator[str]:
    meta = checkpoint['meta']
    recorded, now = meta.get(STEPS_KEY, {}), describe_steps(runner)
    length = recorded.get('steps_per_epoch')
    if length is None and isinstance(runner.train_loop, EpochBasedTrainLoop):
        whole = meta['epoch'] > 0 and meta['iter'] % meta['epoch'] == 0
        length = meta['iter'] // meta['epoch'] if whole else None
    if length is None or length == now['steps_per_epoch']:
        return
    yield (
        f'steps an epoch: {length}{_division(recorded)} in the checkpoint, '
        f'{now["steps_per_epoch"]}{_division(now)} now'
    )


def _division(steps: dict[str, Any]) -> str:
    if steps.get('batch_size') is None:
        return ''
    return f' (processes x batch size: {steps["processes"]} x {steps["batch_size"]})'


def _schedules(checkpoint: dict[str, Any], runner: Any) -> Iterator[str]:
    recorded, built = checkpoint.get('param_schedulers'), runner.param_schedulers
    if not isinstance(recorded, list) or not isinstance(built, list):
        return
    if len(recorded) != len(built):
        yield f'param_scheduler: {len(recorded)} in the checkpoint, {len(built)} in the config'
    for index, (old, scheduler) in enumerate(zip(recorded, built)):
        new = scheduler.state_dict()
        for name in sorted(_settings_of(scheduler) & (old.keys() | new.keys())):
            if _plain(old.get(name)) != _plain(new.get(name)):
                yield (
                    f'param_scheduler[{index}] ({type(scheduler).__name__}), {name}: '
                    f'{_plain(old.get(name))} in the checkpoint, {_plain(new.get(name))} in the '
                    'config'
                )


def _settings_of(scheduler: Any) -> set[str]:
    """Return the argument names of a scheduler; the rest of its state changes during training."""
    names = {
        name
        for kind in type(scheduler).__mro__
        if '__init__' in vars(kind) and kind is not object
        for name in inspect.signature(kind.__init__).parameters
    }
    return names - {*_NO_SETTINGS}


def _optimizer(checkpoint: dict[str, Any], runner: Any) -> Iterator[str]:
    recorded = checkpoint.get('optimizer', {}).get('param_groups')
    # The wrapper's list has an additional group without parameters.
    built = getattr(getattr(runner.optim_wrapper, 'optimizer', None), 'param_groups', None)
    if not isinstance(recorded, list) or not isinstance(built, list):
        return
    if len(recorded) != len(built):
        yield f'optimizer groups: {len(recorded)} in the checkpoint, {len(built)} in the config'
        return
    for name in _OPTIMIZER_SETTINGS:
        pairs = [(_initial(old, name), _initial(new, name)) for old, new in zip(recorded, built)]
        different = sorted({pair for pair in pairs if pair[0] != pair[1]}, key=str)
        if different:
            yield (
                f'optimizer, {name}: {different[0][0]} in the checkpoint, {different[0][1]} in '
                'the config'
            )


def _initial(group: dict[str, Any], name: str) -> Any:
    """Return a setting of a group before schedulers changed it."""
    return group.get(f'initial_{name}', group.get(name))


def _plain(value: Any) -> Any:
    if isinstance(value, Counter):
        return sorted(value.elements())
    return list(value) if isinstance(value, tuple) else value
