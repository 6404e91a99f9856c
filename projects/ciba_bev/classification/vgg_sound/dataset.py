"""VGG-Sound in its prepared form: a spectrogram and a frame of every clip, listed in CSV files.

spectrograms/*.npy           magnitudes, bins x frames, float16
frames/*.jpg                 the middle frame
{train,val,test}.csv         clip, class
classes.csv                  class, name of the class
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ...errors import CibaError, ConfigError
from ...registry import DATASETS
from ..prepared_files import read_array, read_image, read_rows, require_file
from .spectrogram import SIZE, resize_spectrogram

# Folder and suffix of each modality's files.
FILES = {'audio': ('spectrograms', '.npy'), 'video': ('frames', '.jpg')}
FRAME_SIZE = (256, 256)
HEADING = ('clip', 'label')


class _Row(NamedTuple):
    """A line of a CSV file."""

    line: int
    clip: str
    label: int


@DATASETS.register_module()
class VGGSoundDataset(Dataset):
    """Clips of one split of VGG-Sound, read from the disk on access.

    Every row of the CSV file is checked on construction. A first row ``clip,label`` is a heading.

    Args:
        data_root: Folder of the prepared data.
        csv_file: The split's CSV file, relative to ``data_root``.
        inputs: Modalities to load, of ``'audio'`` and ``'video'``; files of others need not exist.
        classes: Number of classes; labels are smaller.
        audio_size: Bins and frames that spectrograms are resized to.
        frame_size: Rows and columns that frames are resized to.
        frame_mean: Mean of red, green and blue, from 0 to 1; by default ImageNet's.
        frame_std: Standard deviation of red, green and blue.

    Attributes:
        shapes: Shape of a sample's inputs, by modality.

    Raises:
        ConfigError: There is no such modality.
        CibaError: The CSV file is missing or invalid; the message names file and row.
    """

    def __init__(
        self,
        data_root: str,
        csv_file: str,
        inputs: Sequence[str] = tuple(FILES),
        classes: int = 100,
        audio_size: Sequence[int] = SIZE,
        frame_size: Sequence[int] = FRAME_SIZE,
        frame_mean: Sequence[float] = (0.485, 0.456, 0.406),
        frame_std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        if not inputs or any(name not in FILES for name in inputs):
            raise ConfigError(f'inputs is {list(inputs)}; it must be of {", ".join(FILES)}.')
        self.root = Path(data_root)
        self.csv_file = self.root / csv_file
        self.inputs = tuple(inputs)
        self.classes = classes
        self.audio_size = tuple(audio_size)
        self.frame_size = tuple(frame_size)
        # (3, 1, 1): images are channels first.
        self.frame_mean = torch.tensor(frame_mean).view(3, 1, 1)
        self.frame_std = torch.tensor(frame_std).view(3, 1, 1)
        self.shapes = {'audio': (1, *self.audio_size), 'video': (3, *self.frame_size)}
        self._rows = self._read_rows()

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read a clip.

        Args:
            index: Its index in the CSV file.

        Returns:
            ``inputs``, by modality: ``audio`` (1, bins, frames), magnitudes, and ``video``
            (3, rows, columns), normalised, float32; ``labels``, an int; ``names``, the clip's name.

        Raises:
            CibaError: A file cannot be read or has an invalid content.
        """
        row = self._rows[index]
        readers = {'audio': self._read_audio, 'video': self._read_frame}
        return {
            'inputs': {name: readers[name](row) for name in self.inputs},
            'labels': row.label,
            'names': row.clip,
        }

    def _read_rows(self) -> list[_Row]:
        rows = []
        seen: dict[str, int] = {}
        listed = read_rows(self.csv_file, 'tools/prepare_vgg_sound.py')
        for index, (line, cells) in enumerate(listed):
            if index == 0 and tuple(cells) == HEADING:
                continue
            source = self._row_name(line)
            if len(cells) != len(HEADING):
                raise CibaError(
                    f'{source} has {len(cells)} columns; it must have two: clip, label.'
                )
            clip, label = cells
            if not label.isdecimal() or int(label) >= self.classes:
                raise CibaError(
                    f'{source} has the label {label!r}; it must be a whole number from 0 to '
                    f'{self.classes - 1}. With other classes, set classes of data set and network.'
                )
            if clip in seen:
                raise CibaError(f'{source} lists {clip}, as row {seen[clip]} does.')
            seen[clip] = line
            for name in self.inputs:
                require_file(prepared_file(self.root, name, clip), source)
            rows.append(_Row(line, clip, int(label)))
        if not rows:
            raise CibaError(f'{self.csv_file}: lists no clips.')
        return rows

    def _read_audio(self, row: _Row) -> Tensor:
        values = read_array(prepared_file(self.root, 'audio', row.clip), self._row_name(row.line))
        # A copy, because torch needs writable memory.
        return torch.from_numpy(resize_spectrogram(values, self.audio_size).copy())[None]

    def _read_frame(self, row: _Row) -> Tensor:
        frame = read_image(prepared_file(self.root, 'video', row.clip), self._row_name(row.line))
        if frame.size != self.frame_size[::-1]:
            frame = frame.resize(self.frame_size[::-1], Image.BILINEAR)
        pixels = torch.from_numpy(np.array(frame)).permute(2, 0, 1)
        return (pixels.float() / 255 - self.frame_mean) / self.frame_std

    def source(self, name: str) -> str:
        """Return the file of a modality or of ``'labels'``, for messages.

        Args:
            name: The modality, or ``'labels'``.

        Returns:
            The CSV file and the name.
        """
        return f'{self.csv_file} ({name})'

    def _row_name(self, line: int) -> str:
        return f'{self.csv_file}, row {line}'


def prepared_file(root: Path, modality: str, clip: str) -> Path:
    """Return the path of a prepared file.

    Args:
        root: Folder of the prepared data.
        modality: ``'audio'`` or ``'video'``.
        clip: Name of the clip.

    Returns:
        The path.
    """
    folder, suffix = FILES[modality]
    return root / folder / f'{clip}{suffix}'
