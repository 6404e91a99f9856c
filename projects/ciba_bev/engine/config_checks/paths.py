"""Check the paths of a config against the disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ...errors import ConfigError
from ...shell import shell_command, training_command
from .nested import dicts_with

_VERSIONS = ('v1.0-trainval', 'v1.0-mini')
_REMOTE_PREFIXES = (
    'http://',
    'https://',
    'torchvision://',
    'modelzoo://',
    'open-mmlab://',
    'openmmlab://',
    'mmcls://',
    's3://',
    'petrel://',
)


def check_data_paths(dataset: dict[str, Any], field: str, config_name: str) -> None:
    """Check that the folder and the annotation file of a dataset exist.

    Args:
        dataset: The dataset config.
        field: Its field in the config.
        config_name: The config file, for messages.

    Raises:
        ConfigError: One of them does not exist; the message has the command that creates it.
    """
    if dataset.get('backend_args'):
        return
    root = Path(dataset.get('data_root') or '')
    simulation = shell_command('python', 'tools/simulate_nuscenes.py', '--out', root)
    remedy = f'Simulate data with `{simulation}`, or put nuScenes there as docs/data.md describes'
    if dataset.get('data_root') and not root.is_dir():
        raise ConfigError(
            f'{config_name}: {field}.data_root is {root}, and {why_absent(root)}.\n{remedy}.'
        )
    if not dataset['ann_file']:
        return
    annotations = root / dataset['ann_file']
    if not annotations.is_file():
        version = next((v for v in _VERSIONS if (root / v).is_dir()), _VERSIONS[0])
        creation = shell_command(
            *('python', 'tools/create_data.py', '--root-path', root, '--version', version)
        )
        raise ConfigError(
            f'{config_name}: {field}.ann_file is {annotations}, and '
            f'{why_absent(annotations, "file")}.\n'
            f'Make it from the nuScenes tables with `{creation}`.'
        )


def check_weight_paths(cfg: Config, config_name: str) -> None:
    """Check that the local files of weights in a config exist.

    Args:
        cfg: The config.
        config_name: The config file, for messages.

    Raises:
        ConfigError: A file does not exist.
    """
    sources = [('load_from', cfg.get('load_from'))]
    sources += [
        (f'{field}.checkpoint', part['checkpoint'])
        for field, part in dicts_with(cfg.get('model') or {}, 'checkpoint', 'model')
        if part.get('type') == 'Pretrained'
    ]
    for field, source in sources:
        if source and not str(source).startswith(_REMOTE_PREFIXES) and not Path(source).is_file():
            raise ConfigError(
                f'{config_name}: there is no checkpoint {source} (wanted by {field}): '
                f'{why_absent(Path(source), "file")}.\n'
                'If it is the result of a training, run that first; otherwise download it.'
            )


def check_earlier_runs(cfg: Config, config_name: str) -> None:
    """Check that the checkpoints of earlier experiments exist.

    Args:
        cfg: The config. A part of its model with both ``config`` and ``checkpoint`` is the result
            of an earlier experiment.
        config_name: The config file, for messages.

    Raises:
        ConfigError: A checkpoint does not exist; the message has the commands that create them, in
            order.
    """
    missing = {
        part['checkpoint']: (field, part['config'])
        for field, part in dicts_with(cfg.get('model') or {}, 'checkpoint', 'model')
        if isinstance(part.get('config'), str)
        and not str(part['checkpoint']).startswith(_REMOTE_PREFIXES)
        and not Path(part['checkpoint']).is_file()
    }
    if missing:
        # A bottleneck is trained after the two models.
        ordered = sorted(missing.items(), key=lambda item: 'bottleneck' in item[1][0])
        found = '\n'.join(f'{field}.checkpoint: {path}' for path, (field, _) in ordered)
        commands = '\n'.join(training_command(config) for _, (_, config) in ordered)
        raise ConfigError(
            f'{config_name}: needs checkpoints that are not there.\n{found}\n'
            f'Train them with\n{commands}\n'
            'or set the paths to weights that you have (--cfg-options '
            f'{ordered[0][1][0]}.checkpoint=FILE).'
        )


def check_work_dir(cfg: Config, config_name: str) -> None:
    """Check that the work folder is a folder, or can be created.

    Args:
        cfg: The config.
        config_name: The config file, for messages.

    Raises:
        ConfigError: There is a file or a broken link of that name.
    """
    if not cfg.get('work_dir'):
        return
    folder = Path(cfg.work_dir)
    nearest = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), None)
    if nearest is not None and not nearest.is_dir():
        raise ConfigError(
            f'{config_name}: results go to {folder} (work_dir), but {why_absent(nearest)}.\n'
            'Remove it, or choose another folder with --work-dir.'
        )


def why_absent(path: Path, wanted: str = 'folder') -> str:
    """Describe why a folder or file does not exist.

    Args:
        path: The path.
        wanted: ``'folder'`` or ``'file'``.

    Returns:
        A clause without a full stop; it names a broken link among the path and its parents.
    """
    for part in (path, *path.parents):
        if part.is_symlink() and not part.exists():
            return f'{part} is a link to {os.readlink(part)}, which does not exist'
    if path.exists():
        return f'{path} is a {"file" if wanted == "folder" else "folder"}, not a {wanted}'
    return f'there is no such {wanted}'
