"""VGG-Sound in its prepared form: a spectrogram and a frame of every clip.

prepared.csv                         part, label, class and name of every prepared clip
spectrograms/<shard>/<clip>.npy      magnitudes (frequencies, frames), float16
frames/<shard>/<clip>.jpg            images, all of one size
"""

from __future__ import annotations

import csv
import zlib
from pathlib import Path
from typing import Any, NamedTuple, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ...errors import CibaError
from ...registry import DATASETS
from .splits import CLIP_NAME, PARTS

LIST_FILE = 'prepared.csv'
LIST_HEADING = ('part', 'label', 'class', 'clip')
MODALITIES = ('audio', 'image')
_SHARDS = 256


def spectrogram_file(root: Path, clip: str) -> Path:
    """Where the spectrogram of a clip is."""
    return root / 'spectrograms' / _shard(clip) / f'{clip}.npy'


def frame_file(root: Path, clip: str) -> Path:
    """Where the frame of a clip is."""
    return root / 'frames' / _shard(clip) / f'{clip}.jpg'


class _Row(NamedTuple):
    """A line of the list of prepared clips."""

    line: int
    clip: str
    label: int


@DATASETS.register_module()
class VGGSoundDataset(Dataset):
    """Clips of one part of the split; what is needed of them is read when it is asked for.

    Args:
        data_root: Folder of the prepared data.
        part: ``'train'``, ``'val'`` or ``'test'``.
        inputs: Modalities to load, of ``'audio'`` and ``'image'``.
        classes: Labels are from 0 to below this.
        image_mean: Of red, green and blue, from 0 to 1.
        image_std: Of the same.

    Raises:
        CibaError: A modality or part does not exist, or the list of prepared clips is missing or
            faulty; the message names file and row.
    """

    def __init__(
        self,
        data_root: str,
        part: str,
        inputs: Sequence[str] = MODALITIES,
        classes: int = 100,
        image_mean: Sequence[float] = (0.485, 0.456, 0.406),
        image_std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        unknown = [name for name in inputs if name not in MODALITIES]
        if unknown or not inputs:
            raise CibaError(f'inputs is {list(inputs)}; it must be of {", ".join(MODALITIES)}.')
        if part not in PARTS:
            raise CibaError(f'part is {part!r}; it must be of {", ".join(PARTS)}.')
        self.root = Path(data_root)
        self.list_file = self.root / LIST_FILE
        self.part = part
        self.inputs = tuple(inputs)
        self.classes = classes
        # (3, 1, 1): images are channels first.
        self.image_mean = torch.tensor(image_mean).view(3, 1, 1)
        self.image_std = torch.tensor(image_std).view(3, 1, 1)
        self._rows = self._read_rows()
        self._shapes: dict[str, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read a clip.

        Args:
            index: Its place among the part's rows.

        Returns:
            ``inputs``, by modality: ``audio`` (1, frequencies, frames) and ``image``
            (3, rows, columns), float32, images normalised; ``labels``, an int; ``names``, the
            clip's name.

        Raises:
            CibaError: A file is missing or cannot be read, or is not like the others.
        """
        row = self._rows[index]
        readers = {'audio': self._read_audio, 'image': self._read_image}
        return {
            'inputs': {name: readers[name](row) for name in self.inputs},
            'labels': row.label,
            'names': row.clip,
        }

    def _read_rows(self) -> list[_Row]:
        if not self.list_file.is_file():
            raise CibaError(
                f'{self.list_file}: there is no such file. Make it with '
                'tools/prepare_vgg_sound.py from the clips (see data/README.md).'
            )
        rows = []
        with open(self.list_file, newline='', encoding='utf-8') as file:
            reader = csv.reader(file)
            heading = next(reader, [])
            if tuple(heading) != LIST_HEADING:
                raise CibaError(
                    f'{self._place(1)} has the columns {", ".join(heading) or "none"}; it must '
                    f'have {", ".join(LIST_HEADING)}.'
                )
            for cells in reader:
                rows += self._read_row(cells, reader.line_num)
        if not rows:
            raise CibaError(f'{self.list_file}: lists no clips of {self.part}.')
        return rows

    def _read_row(self, cells: Sequence[str], line: int) -> list[_Row]:
        """The row, if it is of this part."""
        place = self._place(line)
        if len(cells) != len(LIST_HEADING):
            raise CibaError(f'{place} has {len(cells)} columns; it must have {len(LIST_HEADING)}.')
        part, label, _, clip = cells
        if part not in PARTS:
            raise CibaError(f'{place} has the part {part!r}; it must be of {", ".join(PARTS)}.')
        if not label.isdecimal() or int(label) >= self.classes:
            raise CibaError(
                f'{place} has the label {label!r}; it must be a whole number from 0 to '
                f'{self.classes - 1}.'
            )
        if CLIP_NAME.fullmatch(clip) is None:
            raise CibaError(f'{place} has the clip {clip!r}, which is no name of a clip.')
        return [_Row(line, clip, int(label))] if part == self.part else []

    def _read_audio(self, row: _Row) -> Tensor:
        place, path = self._place(row.line), spectrogram_file(self.root, row.clip)
        try:
            values = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise CibaError(self._unreadable(row, path, error)) from error
        if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating):
            raise CibaError(
                f'{place}: {path} holds {values.dtype} of shape {values.shape}; it must hold '
                'magnitudes, frequencies by frames.'
            )
        magnitudes = torch.from_numpy(values.astype(np.float32))[None]
        if not magnitudes.isfinite().all():
            raise CibaError(f'{place}: {path} holds NaN or infinity.')
        self._require_shape('audio', tuple(magnitudes.shape), row, path)
        return magnitudes

    def _read_image(self, row: _Row) -> Tensor:
        path = frame_file(self.root, row.clip)
        try:
            with Image.open(path) as file:
                # A copy, because torch wants memory it may write to.
                pixels = torch.from_numpy(np.array(file.convert('RGB'))).permute(2, 0, 1)
        except (OSError, SyntaxError) as error:
            raise CibaError(self._unreadable(row, path, error)) from error
        self._require_shape('image', tuple(pixels.shape), row, path)
        return (pixels.float() / 255 - self.image_mean) / self.image_std

    def _unreadable(self, row: _Row, path: Path, error: Exception) -> str:
        found = 'cannot be read' if path.is_file() else 'is missing'
        return (
            f'{self._place(row.line)}: {path} {found} ({error}). Remove what there is of the clip '
            'and prepare the data again, or remove the row.'
        )

    def _require_shape(self, name: str, shape: tuple[int, ...], row: _Row, path: Path) -> None:
        expected = self._shapes.setdefault(name, shape)
        if shape != expected:
            raise CibaError(
                f'{self._place(row.line)}: {path} has shape {shape}, others have {expected}. '
                'Prepare all clips in the same way.'
            )

    def _place(self, line: int) -> str:
        return f'{self.list_file}, row {line}'


def _shard(clip: str) -> str:
    """One of 256 folders: file systems and tools are slow with sixty thousand files in one."""
    return f'{zlib.crc32(clip.encode()) % _SHARDS:02x}'
