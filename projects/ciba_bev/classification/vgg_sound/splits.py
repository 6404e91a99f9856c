"""The split files of VGG-Sound, as users have them.

all_classId_vid_dict.npy    {'train' | 'val' | 'test': {class: [clip, ...]}}, of 100 classes
category_encode_dict.npy    {class's name: class}
vggsound.csv                YouTube id, start second, class's name, 'train' or 'test', of 309

The two arrays are pickles, which could run any code; here they are read by an unpickler that knows
NumPy's arrays and Python's plain values only. A clip's name is the YouTube id and the start second
in six digits, ``X5p1pQzHKE0_000145``.
"""

from __future__ import annotations

import csv
import pickle
import random
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...checkpoints.restricted_pickle import make_pickle_module
from ...errors import CibaError

PARTS = ('train', 'val', 'test')
CLIPS_FILE = 'all_classId_vid_dict.npy'
CLASSES_FILE = 'category_encode_dict.npy'
TABLE_FILE = 'vggsound.csv'
CLIP_NAME = re.compile(r'[\w-]{11}_\d{6}', re.ASCII)

# What reading something else, or half of it, may raise.
_PICKLE_ERRORS = (
    *(OSError, ValueError, EOFError, AttributeError, IndexError, KeyError, TypeError),
    pickle.UnpicklingError,
)
_ARRAY_PARTS = {
    f'{package}.{name}': value
    for package in ('numpy', 'numpy.core.multiarray', 'numpy._core.multiarray')
    for name, value in (
        ('ndarray', np.ndarray),
        ('dtype', np.dtype),
        ('_reconstruct', np.zeros(0).__reduce__()[0]),
        ('scalar', np.float64(0).__reduce__()[0]),
    )
}


class Splits(NamedTuple):
    """Which clips there are for what.

    Attributes:
        classes: Names, in the order of their numbers; the numbers themselves where the files do
            not say.
        clips: For ``train``, ``val`` and ``test``, name and class of every clip.
    """

    classes: list[str]
    clips: dict[str, list[tuple[str, int]]]


def read_splits(folder: str | Path, validation: int = 50, seed: int = 0) -> Splits:
    """Read the split files of a folder, whichever it has.

    With the two arrays the split is theirs. With ``vggsound.csv`` alone, which has no validation
    data, some clips of each class are held out of its training data; if
    ``category_encode_dict.npy`` is there too, only its classes are taken.

    Args:
        folder: With the files named above; or one of them, for those of its folder.
        validation: Clips of each class to hold out; for ``vggsound.csv``.
        seed: Of the choice of those.

    Returns:
        The splits.

    Raises:
        CibaError: A file is missing or faulty, a class is outside the range, a clip is listed
            twice, or a part has no clips; the message names file and place.
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
            f'{folder}: neither {CLIPS_FILE} nor {TABLE_FILE} is there. See data/README.md for '
            'where they come from.'
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
        Names of the classes, in the order of their numbers.

    Raises:
        CibaError: It is no such file, or its numbers are not 0, 1, 2 ...
    """
    content = _read_dictionary(path)
    wrong = [name for name in content if not isinstance(name, str)]
    if wrong or sorted(map(str, content.values())) != sorted(map(str, range(len(content)))):
        raise CibaError(
            f'{path}: must hold the number of each class by its name, from 0 to '
            f'{len(content) - 1}, each once.'
        )
    return sorted(content, key=lambda name: int(content[name]))


def _read_clips(path: Path, classes: list[str] | None) -> Splits:
    content = _read_dictionary(path)
    missing = [part for part in PARTS if not isinstance(content.get(part), dict)]
    if missing:
        raise CibaError(
            f'{path}: must hold clips by class for each of {", ".join(PARTS)}; found '
            f'{", ".join(map(str, content))}.'
        )
    count = len(classes) if classes is not None else len(content['train'])
    seen: dict[str, str] = {}
    clips: dict[str, list[tuple[str, int]]] = {part: [] for part in PARTS}
    for part in PARTS:
        for label, members in content[part].items():
            place = f'{path}, {part}, class {label}'
            if not isinstance(label, (int, np.integer)) or not 0 <= label < count:
                raise CibaError(f'{place}: classes must be whole numbers from 0 to {count - 1}.')
            if not isinstance(members, (list, tuple, np.ndarray)):
                raise CibaError(f'{place}: holds a {type(members).__name__}, not a list of clips.')
            for row, name in enumerate(members, 1):
                _note_clip(name, f'{place}, row {row}', seen)
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
            place = f'{path}, row {reader.line_num}'
            if len(cells) != 4:
                raise CibaError(
                    f'{place} has {len(cells)} columns; it must have four: YouTube id, start '
                    'second, class, train or test.'
                )
            video, start, label, part = (cell.strip() for cell in cells)
            if not start.isdecimal() or part not in ('train', 'test'):
                raise CibaError(
                    f'{place}: the start is {start!r} and the split {part!r}; they must be whole '
                    'seconds, and train or test.'
                )
            name = f'{video}_{int(start):06d}'
            _note_clip(name, place, seen)
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
            raise CibaError(
                f'{path}: has {len(members)} training clips of the class {label!r}, of which '
                f'{validation} cannot be held out for validation.'
            )
        clips['val'] += sorted(generator.sample(members, validation))
    held_out = set(clips['val'])
    clips['train'] = [clip for clip in clips['train'] if clip not in held_out]
    return Splits(list(names), clips)


def _note_clip(name: Any, place: str, seen: dict[str, str]) -> None:
    if not isinstance(name, str) or CLIP_NAME.fullmatch(name) is None:
        raise CibaError(
            f"{place}: {name!r} is no clip's name, which is a YouTube id of 11 characters, an "
            'underscore, and the start second in six digits.'
        )
    if name in seen:
        raise CibaError(f'{place}: {name!r} is listed before, in {seen[name]}.')
    seen[name] = place


def _read_dictionary(path: Path) -> dict:
    """The dictionary that an array without axes holds."""
    try:
        with open(path, 'rb') as file:
            version = np.lib.format.read_magic(file)
            header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = header(file)
            content = None
            if shape == () and dtype.hasobject:
                content = make_pickle_module(_ARRAY_PARTS).load(file).item()
    except _PICKLE_ERRORS as error:
        raise CibaError(f'{path}: is no whole array of split data ({error}).') from error
    if not isinstance(content, dict):
        raise CibaError(f'{path}: must hold one dictionary, as numpy.save writes it.')
    return content
