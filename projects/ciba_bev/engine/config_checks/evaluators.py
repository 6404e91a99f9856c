"""Checks of a config's evaluators, which a run meets only after its first epoch or last frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Sequence

from mmengine.config import Config

from ...errors import CibaError
from .nested import dicts_with
from .paths import why_absent


def check_evaluator_paths(cfg: Config, stages: Sequence[str], config_name: str) -> None:
    """Check that the files evaluators read are there.

    Args:
        cfg: The config.
        stages: Which dataloaders will be used, of ``'train'``, ``'val'`` and ``'test'``.
        config_name: The config file, for messages.

    Raises:
        CibaError: One is not; the message names what the data set reads.
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
            raise CibaError(
                f'{config_name}: {problem}.\nIt would only be looked for once the frames are '
                f'predicted. {_remedy(cfg, stage, field)}'
            )


def check_box_limit(cfg: Config, stages: Sequence[str], config_name: str) -> None:
    """Check that a model predicts no more boxes in a frame than nuScenes' scorer takes.

    Args:
        cfg: The config.
        stages: Which dataloaders will be used, of ``'train'``, ``'val'`` and ``'test'``.
        config_name: The config file, for messages.

    Raises:
        CibaError: A box coder keeps more.
    """
    kinds = [str(evaluator.get('type')) for _, _, evaluator in _evaluators(cfg, stages)]
    if not any('NuScenes' in kind for kind in kinds):
        return
    # Imported here because classification configs need no mmdet3d.
    from ...detection.nuscenes.metric import MAX_BOXES

    for field, part in dicts_with(cfg.get('model') or {}, 'bbox_coder', 'model'):
        kept = (part['bbox_coder'] or {}).get('max_num')
        if kept is not None and kept > MAX_BOXES:
            raise CibaError(
                f"{config_name}: {field}.bbox_coder.max_num is {kept}, but nuScenes' scorer "
                f'refuses more than {MAX_BOXES} boxes in a frame. Set it to '
                f'{MAX_BOXES} or less.'
            )


def _evaluators(cfg: Config, stages: Sequence[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Stage, field and config of every evaluator that a run will use."""
    for stage in stages:
        if stage == 'train' or (stage == 'val' and 'train' in stages and not _is_validated(cfg)):
            continue
        for field, evaluator in dicts_with(
            cfg.get(f'{stage}_evaluator'), 'type', f'{stage}_evaluator'
        ):
            yield stage, field, evaluator


def _is_validated(cfg: Config) -> bool:
    """Whether a training reaches its first validation."""
    loop = cfg.get('train_cfg') or {}
    last = loop.get('max_iters') if loop.get('by_epoch') is False else loop.get('max_epochs')
    return last is None or loop.get('val_begin', 1) <= last


def _remedy(cfg: Config, stage: str, field: str) -> str:
    """The options that point an evaluator at what the data set of its stage reads."""
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
