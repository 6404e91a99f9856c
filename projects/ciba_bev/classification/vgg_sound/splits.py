"""The files of the 100-class split, in the form in which class-incremental learning shares them.

all_classId_vid_dict.npy     {'train' | 'val' | 'test': {label: [clip, ...]}}
category_encode_dict.npy     {class name: label}

Both are pickled dicts, and a pickle may run any code when it is read. Here it may build dicts,
lists, numbers and text only.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import CibaError

CLIP_FILE = 'all_classId_vid_dict.npy'
CLASS_FILE = 'category_encode_dict.npy'
PARTS = ('train', 'val', 'test')
# A YouTube id, and the second at which the clip begins in the video.
CLIP_NAME = re.compile(r'[A-Za-z0-9_-]{11}_\d{6}')

# What NumPy pickles an array of one object with; `_core` is NumPy 2's name for it.
_ARRAY_PARTS = {
    ('numpy', 'ndarray'),
    ('numpy', 'dtype'),
    *(
        (f'numpy.{core}.multiarray', name)
        for core in ('core', '_core')
        for name in ('_reconstruct', 'scalar')
    ),
}


class Clip(NamedTuple):
    """A clip of the split.

    Attributes:
        name: ``<YouTube id>_<start second, six digits>``.
        part: ``'train'``, ``'val'`` or ``'test'``.
        label: Index of its class.
    """

    name: str
    part: str
    label: int


class Split(NamedTuple):
    """The clips and classes of a split.

    Attributes:
        classes: Names, by label.
        clips: In the order of the file: by part, by label.
    """

    classes: list[str]
    clips: list[Clip]


def read_split(folder: str | Path) -> Split:
    """Read and check both files of a split.

    Args:
        folder: Where they are.

    Returns:
        The split.

    Raises:
        CibaError: A file is missing, is not what it should be, or its entries contradict each
            other; the message names file and entry.
    """
    classes = _read_classes(Path(folder) / CLASS_FILE)
    return Split(classes, _read_clips(Path(folder) / CLIP_FILE, len(classes)))


def write_split(folder: str | Path, split: Split) -> None:
    """Write a split in the same form.

    Args:
        folder: Where the files go; it exists.
        split: The split.
    """
    parts: dict[str, dict[int, list[str]]] = {
        part: {label: [] for label in range(len(split.classes))} for part in PARTS
    }
    for clip in split.clips:
        parts[clip.part][clip.label].append(clip.name)
    labels = {name: label for label, name in enumerate(split.classes)}
    for name, content in ((CLIP_FILE, parts), (CLASS_FILE, labels)):
        path = Path(folder) / name
        partial = path.with_name(f'.{name}.partial')
        with open(partial, 'wb') as file:
            np.save(file, np.array(content, dtype=object), allow_pickle=True)
        partial.replace(path)


def _read_classes(path: Path) -> list[str]:
    labels = _read_dict(path)
    for name, label in labels.items():
        if not isinstance(name, str) or not _is_label(label):
            raise CibaError(
                f'{path}: the entry {name!r}: {label!r} is not the name of a class and its label.'
            )
    if sorted(labels.values()) != list(range(len(labels))):
        raise CibaError(
            f'{path}: the labels of its {len(labels)} classes must be 0 to {len(labels) - 1}, each '
            f'once; found {sorted(labels.values())}.'
        )
    return sorted(labels, key=labels.__getitem__)


def _read_clips(path: Path, classes: int) -> list[Clip]:
    parts = _read_dict(path)
    if set(parts) != set(PARTS):
        raise CibaError(f'{path}: its entries are {list(parts)}; they must be {", ".join(PARTS)}.')
    clips: list[Clip] = []
    places: dict[str, str] = {}
    for part in PARTS:
        if not isinstance(parts[part], dict):
            raise CibaError(f'{path}: {part!r} must be a dict of lists of clips, by label.')
        for label, names in parts[part].items():
            place = f'{part!r}, label {label!r}'
            if not _is_label(label) or not 0 <= label < classes:
                raise CibaError(
                    f'{path}: {place}: labels are whole numbers from 0 to {classes - 1}, those of '
                    f'{CLASS_FILE}.'
                )
            if not isinstance(names, list):
                raise CibaError(f'{path}: {place}: must be a list of clips.')
            for position, name in enumerate(names):
                if not isinstance(name, str) or CLIP_NAME.fullmatch(name) is None:
                    raise CibaError(
                        f'{path}: {place}, position {position}: {name!r} is no clip; clips are '
                        'called <YouTube id>_<start second, six digits>.'
                    )
                if name in places:
                    raise CibaError(
                        f'{path}: {place}, position {position}: {name} is there before, in '
                        f'{places[name]}.'
                    )
                places[name] = place
                clips.append(Clip(str(name), part, int(label)))
    return clips


def _is_label(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


class _DataUnpickler(pickle.Unpickler):
    """Builds arrays and plain values only."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAY_PARTS:
            raise pickle.UnpicklingError(f'it names {module}.{name}')
        if module.startswith('numpy.'):
            # Stored under the name that the writer's NumPy has for it.
            module = np.core.multiarray.__name__
        return super().find_class(module, name)


def _read_dict(path: Path) -> dict:
    if not path.is_file():
        raise CibaError(
            f'{path}: there is no such file. The split has {CLIP_FILE} and {CLASS_FILE} '
            '(see data/README.md).'
        )
    with open(path, 'rb') as file:
        try:
            version = np.lib.format.read_magic(file)
            # Version 1 but for headers of more than 64 kB.
            read_header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read_header(file)
            content = _DataUnpickler(file).load() if dtype == object else None
        except Exception as error:
            # A damaged pickle raises whatever its bytes happen to mean.
            raise CibaError(
                f'{path} is no whole NumPy file of plain values ({error}). Get it again.'
            ) from error
    value = content.item() if isinstance(content, np.ndarray) and shape == () else None
    if not isinstance(value, dict) or not value:
        raise CibaError(f'{path} must hold one dict; it holds {dtype} of shape {shape}.')
    return value
