"""Finding the checkpoint that a training goes on from."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log

from ..checkpoints.files import find_damage
from ..errors import CibaError

NOTE = 'last_checkpoint'
_TEMPLATES = ('epoch_{}.pth', 'iter_{}.pth')


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file that a training has written on its way.

    Attributes:
        path: The file.
        kind: What its name counts, such as ``epoch_{}.pth``.
        number: How many of them.
        written: When, in nanoseconds.
    """

    path: Path
    kind: str
    number: int
    written: int


def checkpoint_folder(cfg: Config) -> Path:
    """Return the folder that a training writes its checkpoints into.

    Args:
        cfg: Its config.
    """
    out_dir = _hook(cfg).get('out_dir')
    work_dir = Path(cfg.work_dir)
    return Path(out_dir, work_dir.name) if out_dir else work_dir


def find_checkpoints(cfg: Config) -> list[Checkpoint]:
    """List the checkpoints of a work folder, the newest first.

    What mmengine notes in ``last_checkpoint`` is the newest unless one of a higher number was
    written after it: a training may be killed in between, and it may have gone on from an earlier
    checkpoint than its last. The note's folder does not count, because work folders are copied.

    Args:
        cfg: The config of the training; its ``work_dir`` is set.
    """
    folder = checkpoint_folder(cfg)
    if not folder.is_dir():
        return []
    found = [_read_name(path, cfg) for path in folder.iterdir() if path.is_file()]
    checkpoints = [checkpoint for checkpoint in found if checkpoint is not None]
    one_kind = len({checkpoint.kind for checkpoint in checkpoints}) == 1
    checkpoints.sort(key=lambda c: (c.number, c.written) if one_kind else (c.written, c.number))
    checkpoints.reverse()
    name = os.path.basename(_note(cfg))
    noted = next((c for c in checkpoints if c.path.name == name), None)
    if noted is None:
        return checkpoints
    newer = [c for c in checkpoints if c.written > noted.written and _is_further(c, noted)]
    older = [c for c in checkpoints if c not in newer and c != noted]
    return [*newer, noted, *older]


def newest_whole_checkpoint(cfg: Config) -> str | None:
    """Return the checkpoint that ``--resume`` goes on from; None if there is none.

    Args:
        cfg: The config of the training; its ``work_dir`` is set.

    Raises:
        CibaError: There are checkpoints, and all are damaged.
    """
    checkpoints = find_checkpoints(cfg)
    for checkpoint in checkpoints:
        damage = find_damage(checkpoint.path)
        if damage is None:
            return str(checkpoint.path)
        print_log(f'{checkpoint.path} is passed over: {damage}.')
    if checkpoints:
        raise CibaError(
            f'{checkpoint_folder(cfg)}: all {len(checkpoints)} checkpoints are damaged, so that '
            'there is nothing to go on from. Begin anew in another folder (--work-dir), or here '
            'with --start-over.'
        )
    note = _note(cfg)
    # Remote storage keeps no files to look at.
    return note if '://' in note else None


def _read_name(path: Path, cfg: Config) -> Checkpoint | None:
    own = _hook(cfg).get('filename_tmpl')
    for template in (*_TEMPLATES, *([own] if own else [])):
        match = re.fullmatch(re.escape(template).replace(r'\{\}', r'(\d+)'), path.name)
        if match:
            return Checkpoint(path, template, int(match.group(1)), path.stat().st_mtime_ns)
    return None


def _is_further(one: Checkpoint, other: Checkpoint) -> bool:
    return one.kind != other.kind or one.number > other.number


def _note(cfg: Config) -> str:
    file = Path(cfg.work_dir, NOTE)
    return file.read_text(encoding='utf-8', errors='replace').strip() if file.is_file() else ''


def _hook(cfg: Config) -> dict:
    return (cfg.get('default_hooks') or {}).get('checkpoint') or {}
