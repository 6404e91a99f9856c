"""Read the published split files of VGG-Sound.

all_classId_vid_dict.npy    {'train' | 'val' | 'test': {class: [clip, ...]}}, for 100 classes
category_encode_dict.npy    {name of the class: class}
vggsound.csv                YouTube id, start second, name of the class, 'train' or 'test', for 309

The two arrays are pickles, which could run arbitrary code; they are read by an unpickler that
builds only NumPy arrays and plain Python values. The name of a clip is the YouTube id and the start
second in six digits, as in ``X5p1pQzHKE0_000145``.
"""

from __future__ import annotations

import csv
import pickle
import random
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...checkpoints.restricted_pickle import load_plain
from ...errors import CibaError, ConfigError
from ..prepared_files import read_array_header

PARTS = ('train', 'val', 'test')
CLIPS_FILE = 'all_classId_vid_dict.npy'
CLASSES_FILE = 'category_encode_dict.npy'
TABLE_FILE = 'vggsound.csv'
CLIP_NAME = re.compile(r'[\w-]{11}_\d{6}', re.ASCII)

# Raised for files of another kind, or truncated ones.
_PICKLE_ERRORS = (
    *(OSError, ValueError, EOFError, AttributeError, IndexError, KeyError, TypeError),
    pickle.UnpicklingError,
)


class Splits(NamedTuple):
    """The clips of each split.

    Attributes:
        classes: Names in the order of the class indices; the indices if the files have no names.
        clips: For ``train``, ``val`` and ``test``, name and class index of every clip.
    """

    classes: list[str]
    clips: dict[str, list[tuple[str, int]]]


def read_splits(folder: str | Path, validation: int = 50, seed: int = 0) -> Splits:
    """Read the split files of a folder.

    ``all_classId_vid_dict.npy`` has priority. Otherwise ``vggsound.csv`` is read, which has no
    validation data: some clips of each class are held out of its training data. If
    ``category_encode_dict.npy`` exists as well, only its classes are used.

    Args:
        folder: Folder of the split files, or one of the files.
        validation: Clips of each class to hold out; only for ``vggsound.csv``.
        seed: Seed of the choice of those.

    Returns:
        The splits.

    Raises:
        CibaError: A file is missing or invalid, a class is out of range, a clip is listed twice, or
            a split has no clips; the message names file and row.
    """
    folder = Path(folder)
    if folder.is_file():
        folder = folder.parent
    names = folder / CLASSES_FILE
    classes = read_classes(names) if names.is_file() else None
    if (folder / CLIPS_FILE).is_file():
        splits = _read_clips(folder / CLIPS_FILE, classes)
    elif (folder / TABLE_FILE).is_file():
        splits = _read_table(folder / TABLE_FILE, classes, validation, seed)
    else:
        raise CibaError(
            f'{folder}: contains neither {CLIPS_FILE} nor {TABLE_FILE}. See docs/data.md for '
            'their source.'
        )
    for part, clips in splits.clips.items():
        if not clips:
            raise CibaError(f'{folder}: the split files list no clips for {part}.')
    return splits


def read_classes(path: Path) -> list[str]:
    """Read ``category_encode_dict.npy``.

    Args:
        path: The file.

    Returns:
        Names of the classes, in the order of their indices.

    Raises:
        CibaError: It is not such a file, or the indices are not 0, 1, 2, ...
    """
    content = _read_dictionary(path)
    invalid = [name for name in content if not isinstance(name, str)]
    if invalid or sorted(map(str, content.values())) != sorted(map(str, range(len(content)))):
        raise CibaError(
            f'{path}: must map the name of each class to its index, from 0 to '
            f'{len(content) - 1}, each once.'
        )
    return sorted(content, key=lambda name: int(content[name]))


def _read_clips(path: Path, classes: list[str] | None) -> Splits:
    content = _read_dictionary(path)
    missing = [part for part in PARTS if not isinstance(content.get(part), dict)]
    if missing:
        raise CibaError(
            f'{path}: must list clips by class for each of {", ".join(PARTS)}; found '
            f'{", ".join(map(str, content))}.'
        )
    count = len(classes) if classes is not None else len(content['train'])
    seen: dict[str, str] = {}
    clips: dict[str, list[tuple[str, int]]] = {part: [] for part in PARTS}
    for part in PARTS:
        for label, members in content[part].items():
            source = f'{path}, {part}, class {label}'
            if not isinstance(label, (int, np.integer)) or not 0 <= label < count:
                raise CibaError(f'{source}: classes must be whole numbers from 0 to {count - 1}.')
            if not isinstance(members, (list, tuple, np.ndarray)):
                raise CibaError(f'{source}: is a {type(members).__name__}, not a list of clips.')
            for number, name in enumerate(members, 1):
                _record_clip(name, f'{source}, row {number}', seen)
                clips[part].append((str(name), int(label)))
    names = classes if classes is not None else [str(label) for label in range(count)]
    return Splits(names, clips)


def _read_table(path: Path, classes: list[str] | None, validation: int, seed: int) -> Splits:
    rows: list[tuple[str, str, str]] = []
    seen: dict[str, str] = {}
    with open(path, newline='', encoding='utf-8') as file:
        reader = csv.reader(file)
        for cells in reader:
            if not cells:
                continue
            row = f'{path}, row {reader.line_num}'
            if len(cells) != 4:
                raise CibaError(
                    f'{row} has {len(cells)} columns; it must have four: YouTube id, start '
                    'second, class, train or test.'
                )
            video, start, label, part = (cell.strip() for cell in cells)
            if not start.isdecimal() or part not in ('train', 'test'):
                raise CibaError(
                    f'{row}: the start is {start!r} and the split {part!r}; they must be whole '
                    'seconds, and train or test.'
                )
            name = f'{video}_{int(start):06d}'
            _record_clip(name, row, seen)
            rows.append((name, label, part))
    names = classes if classes is not None else sorted({label for _, label, _ in rows})
    numbers = {name: number for number, name in enumerate(names)}
    unknown = sorted(set(names) - {label for _, label, _ in rows})
    if unknown:
        raise CibaError(f'{path}: has no clips of the class {unknown[0]!r} of {CLASSES_FILE}.')
    clips: dict[str, list[tuple[str, int]]] = {part: [] for part in PARTS}
    for name, label, part in rows:
        if label in numbers:
            clips[part].append((name, numbers[label]))
    generator = random.Random(seed)
    for number, label in enumerate(names):
        members = [clip for clip in clips['train'] if clip[1] == number]
        if len(members) <= validation:
            raise ConfigError(
                f'{path}: has {len(members)} training clips of the class {label!r}, of which '
                f'{validation} cannot be held out for validation.'
            )
        clips['val'] += sorted(generator.sample(members, validation))
    held_out = set(clips['val'])
    clips['train'] = [clip for clip in clips['train'] if clip not in held_out]
    return Splits(list(names), clips)


def _record_clip(name: Any, row: str, seen: dict[str, str]) -> None:
    if not isinstance(name, str) or CLIP_NAME.fullmatch(name) is None:
        raise CibaError(
            f'{row}: {name!r} is not the name of a clip, which is a YouTube id of 11 characters, '
            'an underscore, and the start second in six digits.'
        )
    if name in seen:
        raise CibaError(f'{row}: {name!r} is listed before, in {seen[name]}.')
    seen[name] = row


def _read_dictionary(path: Path) -> dict:
    """Return the dictionary in an array without axes."""
    try:
        with open(path, 'rb') as file:
            shape, dtype = read_array_header(file)
            content = None
            if shape == () and dtype.hasobject:
                content = load_plain(file).item()
    except _PICKLE_ERRORS as error:
        raise CibaError(f'{path}: not a complete array of split data ({error}).') from error
    if not isinstance(content, dict):
        raise CibaError(f'{path}: must contain one dictionary, as numpy.save writes it.')
    return content
