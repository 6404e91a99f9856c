"""Apply overrides to a config, and refuse those without an effect."""

from __future__ import annotations

import ast
import difflib
import inspect
import os
import sys
from pathlib import Path
from typing import Any, Iterator, Sequence

from mmengine.config import Config
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TASK_UTILS,
    TRANSFORMS,
    VISBACKENDS,
    VISUALIZERS,
    init_default_scope,
)
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from ..errors import ConfigError
from .config_checks.nested import registered_class

_REGISTRIES = (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TASK_UTILS,
    TRANSFORMS,
    VISBACKENDS,
    VISUALIZERS,
)
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Top-level fields that mmengine reads in addition to the arguments of its Runner.
_OTHER_FIELDS = (
    'activation_checkpointing',
    'compile',
    'data_root',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'sync_bn',
)
# Fields of Runner.build_dataloader in addition to the arguments of torch's DataLoader.
_LOADER_FIELDS = ('num_batch_per_epoch',)
# Fields of components that are removed before their constructors are called.
_BUILDER_FIELDS = (
    'type',
    '_scope_',
    'constructor',
    'convert_to_iter_based',
    'paramwise_cfg',
    'priority',
)
# Names in mmdet3d 0.x.
_OLD_FIELDS = {
    'checkpoint_config': 'default_hooks.checkpoint',
    'cudnn_benchmark': 'env_cfg.cudnn_benchmark',
    'data.samples_per_gpu': 'train_dataloader.batch_size',
    'data.test': 'test_dataloader.dataset',
    'data.train': 'train_dataloader.dataset',
    'data.val': 'val_dataloader.dataset',
    'data.workers_per_gpu': 'train_dataloader.num_workers',
    'dist_params': 'env_cfg.dist_cfg',
    'evaluation.interval': 'train_cfg.val_interval',
    'log_config': 'default_hooks.logger',
    'lr_config': 'param_scheduler',
    'optimizer': 'optim_wrapper.optimizer',
    'optimizer_config.grad_clip': 'optim_wrapper.clip_grad',
    'resume_from': 'load_from, with resume=True',
    'runner.max_epochs': 'train_cfg.max_epochs',
    'runner.max_iters': 'train_cfg.max_iters',
    'seed': 'randomness.seed',
    'total_epochs': 'train_cfg.max_epochs',
}
# An unused name that is this similar to a field is taken for a misspelling.
_SIMILAR = 0.85
_LISTED_FIELDS = 4


def read_config_file(path: str | os.PathLike, options: dict[str, Any] | None = None) -> Config:
    """Read a config file, with overrides as from ``--cfg-options``.

    A new ``data_root``, in a config that inherits or in an override, also replaces the old one at
    the beginning of all paths.

    Args:
        path: The file.
        options: Dotted field to value.

    Returns:
        The config.

    Raises:
        ConfigError: There is no such file, it is no valid config, or an override would change
            nothing.
    """
    if not Path(path).is_file():
        raise ConfigError(
            f'{path}: there is no such config file (the project keeps its own in configs/).'
        )
    try:
        cfg = Config.fromfile(str(path))
        _inherit_moved_root(cfg, Path(path))
    except (SyntaxError, OSError, KeyError, TypeError, NameError, AttributeError) as error:
        raise ConfigError(f'{path}: not a valid config: {type(error).__name__}: {error}') from error
    _check_top_level_names(cfg, str(path))
    if options:
        apply_options(cfg, options)
    remove_worker_options(cfg)
    return cfg


def apply_options(cfg: Config, options: dict[str, Any]) -> None:
    """Override fields of a config.

    Args:
        cfg: The config; changed in field.
        options: Dotted field to value. A new ``data_root`` also replaces the old one at the
            beginning of all paths, except for those set by other options.

    Raises:
        ConfigError: An option sets a field that is not read.
    """
    options = dict(options)
    if 'data_root' in options and isinstance(cfg.get('data_root'), str):
        move_root(cfg, cfg.data_root, str(options.pop('data_root')))
    # Checked afterwards, because an option may change the type of a component.
    depths = {key: _find(cfg, key.split('.'))[1] for key in options}
    for key in options:
        _check_top(cfg, key)
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        # mmengine's message ends with the whole list that an index exceeds.
        reason = str(error.args[0] if error.args else error).split(' [')[0]
        raise ConfigError(f'--cfg-options {" ".join(options)}: {reason}') from error
    for key, depth in depths.items():
        _check_created(cfg, key, depth)


def move_root(cfg: Config, old: str, new: str) -> None:
    """Replace a folder at the beginning of every path in a config.

    Args:
        cfg: The config; changed in field.
        old: The folder.
        new: The folder that takes its field.
    """
    for key in cfg:
        cfg[key] = _moved(cfg[key], old, new)


def remove_worker_options(cfg: Config) -> None:
    """Remove options that torch does not accept for data loaders without worker processes.

    Args:
        cfg: The config; changed in field.
    """
    for name in _LOADERS:
        loader = cfg.get(name)
        if isinstance(loader, dict) and loader.get('num_workers') == 0:
            loader.pop('persistent_workers', None)
            loader.pop('prefetch_factor', None)


def _moved(value: Any, old: str, new: str) -> Any:
    """Return a nested value with a folder replaced at the beginning of paths."""
    if isinstance(value, str):
        bare = old.rstrip('/')
        if value in (old, bare):
            return new
        # Every path begins with a root such as '/' or ''.
        if bare not in ('', '.') and value.startswith(bare + '/'):
            return os.path.join(new, value[len(bare) + 1 :])
        return value
    if isinstance(value, dict):
        for key in value:
            value[key] = _moved(value[key], old, new)
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(item, old, new) for item in value)
    return value


def _inherit_moved_root(cfg: Config, path: Path) -> None:
    """Replace ``data_root`` in the paths that are inherited from bases with another one."""
    for base_path in _base_files(path):
        base = Config.fromfile(str(base_path))
        moved = Config.fromfile(str(base_path))
        _inherit_moved_root(moved, base_path)
        old, new = base.get('data_root'), cfg.get('data_root')
        if isinstance(old, str) and isinstance(new, str) and old != new:
            move_root(moved, old, new)
        for key in cfg:
            if key in base:
                cfg[key] = _inherited(cfg[key], base[key], moved[key])


def _inherited(value: Any, base: Any, moved: Any) -> Any:
    """Return a value in which everything inherited from a base has the moved paths."""
    if isinstance(value, dict) and isinstance(base, dict):
        for key in value:
            if key in base:
                value[key] = _inherited(value[key], base[key], moved[key])
        return value
    if isinstance(value, (list, tuple)) and type(value) is type(base) and len(value) == len(base):
        return type(value)(map(_inherited, value, base, moved))
    return moved if isinstance(value, str) and value == base else value


def _base_files(path: Path) -> list[Path]:
    """Return the files in ``_base_`` of a config file, without those of other packages."""
    if path.suffix != '.py':
        return []
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(target, ast.Name) and target.id == '_base_':
            named = ast.literal_eval(node.value)
            named = [named] if isinstance(named, str) else named
            return [path.parent / name for name in named if '::' not in name]
    return []


def _check_top_level_names(cfg: Config, path: str) -> None:
    """Refuse unused top-level names that look like a misspelled field."""
    known = _top_fields()
    for name in cfg:
        if name in known or not isinstance(cfg[name], (dict, list)):
            continue
        close = difflib.get_close_matches(name, known, n=1, cutoff=_SIMILAR)
        if close and not _uses_of(cfg, name):
            raise ConfigError(
                f'{path}: nothing reads {name}. Did you mean {close[0]}? (Rename it if it is a '
                'variable.)'
            )


def _check_top(cfg: Config, key: str) -> None:
    """Refuse an option that sets an unknown field or a variable of the config file."""
    name = key.split('.')[0]
    known = _top_fields()
    if name in known:
        return
    old = _new_name(key)
    if old:
        raise ConfigError(f'--cfg-options {key}: nothing reads it; since mmdet3d 1.0 it is {old}.')
    if name in cfg:
        uses = _uses_of(cfg, name)
        if uses:
            raise ConfigError(
                f'--cfg-options {key}: {name} is a variable of the config file, which has been '
                'copied to where it is used. Set the fields themselves: '
                f'{", ".join(uses[:_LISTED_FIELDS])}'
                f'{", ..." if len(uses) > _LISTED_FIELDS else ""}.'
            )
        _warn(f'--cfg-options {key}: no tool here reads {name}; it may change nothing.')
        return
    close = difflib.get_close_matches(name, [*known, *cfg], n=1)
    hint = f' Did you mean {".".join([close[0], *key.split(".")[1:]])}?' if close else ''
    raise ConfigError(f'--cfg-options {key}: nothing reads a field {name}.{hint}')


def _check_created(cfg: Config, key: str, depth: int) -> None:
    """Refuse an option that created a field which its component does not accept.

    Args:
        cfg: The config, changed by the option.
        key: The dotted field of the option.
        depth: Number of its parts that existed before.
    """
    path = key.split('.')
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    for position in range(max(depth, 1), len(path)):
        part, field, name = (
            _find(cfg, path[:position])[0],
            '.'.join(path[:position]),
            path[position],
        )
        if not isinstance(part, dict):
            continue
        accepted = _accepted_names(part, field)
        if accepted is None and part.get('type') is None:
            others = [other for other in part if other != name]
            close = difflib.get_close_matches(name, others, n=1, cutoff=_SIMILAR)
            if close:
                _warn(f'--cfg-options {key}: {field} had no {name}; {close[0]} is in it.')
        elif accepted is not None and name not in accepted:
            close = difflib.get_close_matches(name, accepted, n=1)
            hint = (
                f'Did you mean {close[0]}?' if close else f'It has {", ".join(sorted(accepted))}.'
            )
            raise ConfigError(f'--cfg-options {key}: {field} has no {name}. {hint}')


def _find(cfg: Config, path: Sequence[str]) -> tuple[Any, int]:
    """Return the deepest existing part of a config on a path, and its depth."""
    part: Any = cfg
    for depth, name in enumerate(path):
        if isinstance(part, (list, tuple)) and name.isdigit() and int(name) < len(part):
            part = part[int(name)]
        elif hasattr(part, 'keys') and name in part:
            part = part[name]
        else:
            return part, depth
    return part, len(path)


def _top_fields() -> list[str]:
    arguments = list(inspect.signature(Runner.__init__).parameters)[1:]
    return [name for name in arguments if name != 'cfg'] + list(_OTHER_FIELDS)


def _new_name(key: str) -> str | None:
    """Return the present name of a field of mmdet3d 0.x, or None."""
    for old, new in _OLD_FIELDS.items():
        if key == old or key.startswith(old + '.'):
            return new + key[len(old) :]
    return None


def _uses_of(cfg: Config, name: str) -> list[str]:
    """Return the fields with the value of a variable; for plain numbers, of the same name."""
    value = cfg[name]
    plain = isinstance(value, (bool, int, float)) or value in (None, '', [], {})
    found = []
    for top in _top_fields():
        for field, last, other in _fields_of(cfg.get(top), top):
            if (last == name or not plain) and type(other) is type(value) and other == value:
                found.append(field)
    return found


def _fields_of(tree: Any, field: str) -> Iterator[tuple[str, str, Any]]:
    """Yield dotted name, last part of the name, and value of everything in a config."""
    yield field, field.rsplit('.', 1)[-1], tree
    items: Any = ()
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, (list, tuple)):
        items = enumerate(tree)
    for key, value in items:
        yield from _fields_of(value, f'{field}.{key}')


def _accepted_names(part: dict[str, Any], field: str) -> set[str] | None:
    """Return the fields that a part of a config may have; None if unknown."""
    names = set(_BUILDER_FIELDS)
    if part.get('type') is not None:
        kinds = _registered(part['type']) if isinstance(part['type'], str) else [part['type']]
    elif field in _LOADERS:
        names |= {*_LOADER_FIELDS, *inspect.signature(Runner.build_dataloader).parameters}
        kinds = [DataLoader]
    elif field == 'train_cfg':
        names.add('by_epoch')
        kinds = [EpochBasedTrainLoop, IterBasedTrainLoop]
    else:
        return None
    for kind in kinds:
        accepted = _parameters(kind)
        if accepted is None:
            return None
        names |= accepted
    return names if kinds else None


def _parameters(kind: Any) -> set[str] | None:
    """Return the parameter names of a class or function; None if it accepts any.

    If a constructor has ``**kwargs``, the parameters of its base classes are included.
    """
    constructors = (
        [kind]
        if not inspect.isclass(kind)
        else [base.__init__ for base in kind.__mro__ if '__init__' in vars(base)]
    )
    names: set[str] = set()
    for constructor in constructors:
        try:
            parameters = inspect.signature(constructor).parameters.values()
        except (TypeError, ValueError):
            return None
        kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names |= {parameter.name for parameter in parameters if parameter.kind in kinds}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            # No further base class receives keyword arguments.
            return names - {'self'}
    return None


def _registered(name: str) -> list[Any]:
    """Return everything registered under a name, in any registry that configs use."""
    found = (registered_class(registry, name) for registry in _REGISTRIES)
    return [kind for kind in found if kind is not None]


def _warn(text: str) -> None:
    # All processes run this, before the process group is initialised.
    if os.environ.get('RANK', '0') == '0':
        print(f'warning: {text}', file=sys.stderr)
