"""Check a config's evaluators, which are otherwise used only after an epoch or the last frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Sequence

from mmengine.config import Config

from ...errors import ConfigError
from .nested import dicts_with
from .paths import why_absent


def check_evaluator_paths(cfg: Config, stages: Sequence[str], config_name: str) -> None:
    """Check that the files of the evaluators exist.

    Args:
        cfg: The config.
        stages: The dataloaders that will be used, of ``'train'``, ``'val'`` and ``'test'``.
        config_name: The config file, for messages.

    Raises:
        ConfigError: A file does not exist; the message names the file of the data set.
    """
    for stage, field, evaluator in _evaluators(cfg, stages):
        if evaluator.get('backend_args'):
            continue
        problem = None
        root = evaluator.get('data_root')
        if root and not Path(root).is_dir():
            problem = f'{field}.data_root is {root}, and {why_absent(Path(root))}'
        elif 'ann_file' in evaluator and not Path(evaluator['ann_file']).is_file():
            path = Path(evaluator['ann_file'])
            problem = f'{field}.ann_file is {path}, and {why_absent(path, "file")}'
        if problem:
            raise ConfigError(
                f'{config_name}: {problem}.\nIt would only be read after all frames are '
                f'predicted. {_remedy(cfg, stage, field)}'
            )


def check_box_limit(cfg: Config, stages: Sequence[str], config_name: str) -> None:
    """Check that a model predicts no more boxes per frame than nuScenes' scorer accepts.

    Args:
        cfg: The config.
        stages: The dataloaders that will be used, of ``'train'``, ``'val'`` and ``'test'``.
        config_name: The config file, for messages.

    Raises:
        ConfigError: A box coder keeps more boxes.
    """
    kinds = [str(evaluator.get('type')) for _, _, evaluator in _evaluators(cfg, stages)]
    if not any('NuScenes' in kind for kind in kinds):
        return
    # Imported here because classification configs need no mmdet3d.
    from ...detection.nuscenes.metric import MAX_BOXES

    for field, part in dicts_with(cfg.get('model') or {}, 'bbox_coder', 'model'):
        kept = (part['bbox_coder'] or {}).get('max_num')
        if kept is not None and kept > MAX_BOXES:
            raise ConfigError(
                f"{config_name}: {field}.bbox_coder.max_num is {kept}, but nuScenes' scorer "
                f'refuses more than {MAX_BOXES} boxes in a frame. Set it to '
                f'{MAX_BOXES} or less.'
            )


def _evaluators(cfg: Config, stages: Sequence[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield stage, field and config of every evaluator that will be used."""
    for stage in stages:
        if stage == 'train' or (stage == 'val' and 'train' in stages and not _is_validated(cfg)):
            continue
        for field, evaluator in dicts_with(
            cfg.get(f'{stage}_evaluator'), 'type', f'{stage}_evaluator'
        ):
            yield stage, field, evaluator


def _is_validated(cfg: Config) -> bool:
    """Return whether a training reaches its first validation."""
    loop = cfg.get('train_cfg') or {}
    last = loop.get('max_iters') if loop.get('by_epoch') is False else loop.get('max_epochs')
    return last is None or loop.get('val_begin', 1) <= last


def _remedy(cfg: Config, stage: str, field: str) -> str:
    """Return the options that make an evaluator read the file of its data set."""
    datasets = list(dicts_with(cfg.get(f'{stage}_dataloader'), 'ann_file', ''))
    if len(datasets) != 1:
        return 'Point it at the files that the data set reads.'
    dataset = datasets[0][1]
    root = dataset.get('data_root') or ''
    ann_file = Path(root, dataset['ann_file'])
    return (
        f'The data set reads {ann_file}; score against the same with\n--cfg-options '
        f'{field}.data_root={root} {field}.ann_file={ann_file}'
    )
