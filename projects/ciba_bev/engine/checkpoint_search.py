"""Find the checkpoint from which a training is resumed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log

from ..checkpoints.files import find_damage
from ..errors import CibaError

LAST_CHECKPOINT_FILE = 'last_checkpoint'
_TEMPLATES = ('epoch_{}.pth', 'iter_{}.pth')


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file of a training.

    Attributes:
        path: The file.
        kind: Template of its name, such as ``epoch_{}.pth``.
        number: Number in its name.
        written: Time of writing, in nanoseconds.
    """

    path: Path
    kind: str
    number: int
    written: int


def checkpoint_folder(cfg: Config) -> Path:
    """Return the folder of a training's checkpoints.

    Args:
        cfg: Its config.

    Returns:
        The work folder, or the ``out_dir`` of its checkpoint hook.
    """
    out_dir = _hook(cfg).get('out_dir')
    work_dir = Path(cfg.work_dir)
    return Path(out_dir, work_dir.name) if out_dir else work_dir


def find_checkpoints(cfg: Config) -> list[Checkpoint]:
    """List the checkpoints of a work folder, the newest first.

    The checkpoint in mmengine's file ``last_checkpoint`` is the newest, unless one with a higher
    number was written after it: a training may be killed before it updates the file. The folder in
    the file is ignored, because work folders may be copied.

    Args:
        cfg: The config of the training; its ``work_dir`` is set.

    Returns:
        The checkpoints.
    """
    folder = checkpoint_folder(cfg)
    if not folder.is_dir():
        return []
    found = [_read_name(path, cfg) for path in folder.iterdir() if path.is_file()]
    checkpoints = [checkpoint for checkpoint in found if checkpoint is not None]
    one_kind = len({checkpoint.kind for checkpoint in checkpoints}) == 1
    checkpoints.sort(key=lambda c: (c.number, c.written) if one_kind else (c.written, c.number))
    checkpoints.reverse()
    name = os.path.basename(_last_checkpoint(cfg))
    recorded = next((c for c in checkpoints if c.path.name == name), None)
    if recorded is None:
        return checkpoints
    newer = [c for c in checkpoints if c.written > recorded.written and _is_further(c, recorded)]
    older = [c for c in checkpoints if c not in newer and c != recorded]
    return [*newer, recorded, *older]


def newest_whole_checkpoint(cfg: Config) -> str | None:
    """Return the newest checkpoint that is not damaged, for ``--resume``.

    Args:
        cfg: The config of the training; its ``work_dir`` is set.

    Returns:
        Its path; None if there are no checkpoints.

    Raises:
        CibaError: There are checkpoints, and all are damaged.
    """
    checkpoints = find_checkpoints(cfg)
    for checkpoint in checkpoints:
        damage = find_damage(checkpoint.path)
        if damage is None:
            return str(checkpoint.path)
        print_log(f'{checkpoint.path} is skipped: {damage}.')
    if checkpoints:
        raise CibaError(
            f'{checkpoint_folder(cfg)}: all {len(checkpoints)} checkpoints are damaged, so that '
            'the training cannot be resumed. Start it in another folder (--work-dir), or here '
            'with --start-over.'
        )
    recorded = _last_checkpoint(cfg)
    # Files in a remote storage are not listed.
    return recorded if '://' in recorded else None


def _read_name(path: Path, cfg: Config) -> Checkpoint | None:
    own = _hook(cfg).get('filename_tmpl')
    for template in (*_TEMPLATES, *([own] if own else [])):
        match = re.fullmatch(re.escape(template).replace(r'\{\}', r'(\d+)'), path.name)
        if match:
            return Checkpoint(path, template, int(match.group(1)), path.stat().st_mtime_ns)
    return None


def _is_further(one: Checkpoint, other: Checkpoint) -> bool:
    return one.kind != other.kind or one.number > other.number


def _last_checkpoint(cfg: Config) -> str:
    file = Path(cfg.work_dir, LAST_CHECKPOINT_FILE)
    return file.read_text(encoding='utf-8', errors='replace').strip() if file.is_file() else ''


def _hook(cfg: Config) -> dict:
    return (cfg.get('default_hooks') or {}).get('checkpoint') or {}
