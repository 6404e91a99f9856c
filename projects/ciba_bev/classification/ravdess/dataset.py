"""RAVDESS in its prepared form: a spectral feature and a frame of every clip, listed in CSV files.

aud_features/*.npy                   2-D float arrays, one shape
vid_features/*                       images
data_file/spa_{dl,val,test}.csv      audio file, image file, label; training, validation, test
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ...errors import CibaError, ConfigError
from ...registry import DATASETS
from ..prepared_files import (
    read_array,
    read_array_shape,
    read_image,
    read_image_size,
    read_rows,
    require_file,
)

# In the order of the third field of a clip's name, 01 to 08.
EMOTIONS = ('neutral', 'calm', 'happy', 'sad', 'angry', 'fearful', 'disgust', 'surprised')
MODALITIES = ('audio', 'image')
# Rows and columns of the published frames.
IMAGE_SIZE = (256, 512)
# Modality, channel, emotion, intensity, statement, repetition, actor.
CLIP_NAME = re.compile(r'\d\d(?:-\d\d){6}')
_MODALITY_FIELD = len('00-')


class _Row(NamedTuple):
    """A line of a CSV file."""

    line: int
    audio: Path
    image: Path
    label: int


@DATASETS.register_module()
class RavdessDataset(Dataset):
    """Clips of one split of RAVDESS, read from the disk on access.

    Every row of the CSV file and the size of every file is checked on construction. File names
    without a folder are relative to the modality's folder, those with a folder to ``data_root``. A
    first row without a number in the label column is a heading.

    Args:
        data_root: Folder of the prepared data.
        csv_file: The split's CSV file, relative to ``data_root``.
        inputs: Modalities to load, of ``'audio'`` and ``'image'``.
        audio_folder: Folder of the spectral features.
        image_folder: Folder of the frames.
        audio_mean: Subtracted from the spectral features.
        audio_std: Divisor of the difference.
        image_mean: Mean of red, green and blue, from 0 to 1.
        image_std: Standard deviation of red, green and blue.
        image_size: Rows and columns of the images.
        resize_images: Resize images of another size instead of raising an error.

    Attributes:
        classes: Number of emotions.
        shapes: Shape of a sample's inputs, by modality.

    Raises:
        ConfigError: There is no such modality.
        CibaError: The CSV file is missing or invalid, or the size of a file differs from the others
            or from ``image_size``; the message names file and row.
    """

    classes = len(EMOTIONS)

    def __init__(
        self,
        data_root: str,
        csv_file: str,
        inputs: Sequence[str] = MODALITIES,
        audio_folder: str = 'aud_features',
        image_folder: str = 'vid_features',
        audio_mean: float = -10.59,
        audio_std: float = 85.66,
        image_mean: Sequence[float] = (0.485, 0.456, 0.406),
        image_std: Sequence[float] = (0.229, 0.224, 0.225),
        image_size: Sequence[int] = IMAGE_SIZE,
        resize_images: bool = False,
    ) -> None:
        unknown = [name for name in inputs if name not in MODALITIES]
        if unknown or not inputs:
            raise ConfigError(f'inputs is {list(inputs)}; it must be of {", ".join(MODALITIES)}.')
        self.root = Path(data_root)
        self.csv_file = self.root / csv_file
        self.inputs = tuple(inputs)
        self.audio_mean = audio_mean
        self.audio_std = audio_std
        # (3, 1, 1): images are channels first.
        self.image_mean = torch.tensor(image_mean).view(3, 1, 1)
        self.image_std = torch.tensor(image_std).view(3, 1, 1)
        self.image_size = tuple(image_size)
        self.resize_images = resize_images
        self._rows = self._read_rows(self.root / audio_folder, self.root / image_folder)
        self.shapes = self._check_sizes()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read a clip.

        Args:
            index: Its index in the CSV file.

        Returns:
            ``inputs``, by modality: ``audio`` (1, coefficients, frames) and ``image``
            (3, rows, columns), float32, normalised; ``labels``, an int; ``names``, the name of the
            audio file without suffix.

        Raises:
            CibaError: A file cannot be read, or its size differs from the others.
        """
        row = self._rows[index]
        readers = {'audio': self._read_audio, 'image': self._read_image}
        return {
            'inputs': {name: readers[name](row) for name in self.inputs},
            'labels': row.label,
            'names': row.audio.stem,
        }

    def _read_rows(self, audio_folder: Path, image_folder: Path) -> list[_Row]:
        rows = []
        listed = read_rows(self.csv_file, 'tools/prepare_ravdess.py')
        for index, (line, cells) in enumerate(listed):
            if index == 0 and len(cells) == 3 and not _is_number(cells[2]):
                continue
            source = self._row_name(line)
            if len(cells) != 3:
                raise CibaError(
                    f'{source} has {len(cells)} columns; it must have three: audio file, image '
                    'file, label.'
                )
            row = _Row(
                line,
                self._find(audio_folder, cells[0], source),
                self._find(image_folder, cells[1], source),
                _read_label(cells[2], source),
            )
            _require_same_clip(row, source)
            rows.append(row)
        if not rows:
            raise CibaError(f'{self.csv_file}: lists no clips.')
        return rows

    def _find(self, folder: Path, name: str, source: str) -> Path:
        path = folder / name if Path(name).name == name else self.root / name
        require_file(path, source)
        return path

    def _check_sizes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each modality's input, from the headers of all files."""
        shapes: dict[str, tuple[int, ...]] = {}
        for row in self._rows:
            source = self._row_name(row.line)
            if 'audio' in self.inputs:
                found = read_array_shape(row.audio, source)
                expected = shapes.setdefault('audio', (1, *found))[1:]
                if found != expected:
                    raise CibaError(
                        f'{source}: {row.audio} has shape {found}, others have {expected}. Prepare '
                        'all clips in the same way.'
                    )
            if 'image' in self.inputs:
                self._require_size(read_image_size(row.image, source), row)
                shapes['image'] = (3, *self.image_size)
        return shapes

    def _require_size(self, size: tuple[int, int], row: _Row) -> None:
        if size != self.image_size and not self.resize_images:
            found, expected = (f'{rows} x {columns}' for rows, columns in (size, self.image_size))
            raise CibaError(
                f'{self._row_name(row.line)}: {row.image} has {found} pixels, and image_size of '
                f'the data set is {expected}. Prepare the data with that size, set image_size to '
                f'{list(size)} in configs/_base_/classification/ravdess.py, or set '
                'resize_images=True beside it.'
            )

    def _read_audio(self, row: _Row) -> Tensor:
        values = read_array(row.audio, self._row_name(row.line)).astype(np.float32)
        return torch.from_numpy((values - self.audio_mean) / self.audio_std)[None]

    def _read_image(self, row: _Row) -> Tensor:
        image = read_image(row.image, self._row_name(row.line))
        if image.size != self.image_size[::-1]:
            self._require_size((image.height, image.width), row)
            image = image.resize(self.image_size[::-1], Image.BILINEAR)
        # A copy, because torch needs writable memory.
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return (pixels.float() / 255 - self.image_mean) / self.image_std

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


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_label(text: str, source: str) -> int:
    if not text.isdecimal() or int(text) >= len(EMOTIONS):
        raise CibaError(
            f'{source} has the label {text!r}; it must be a whole number from 0 to '
            f'{len(EMOTIONS) - 1}.'
        )
    return int(text)


def _require_same_clip(row: _Row, source: str) -> None:
    """Check that two files named after clips belong to the same clip."""
    found = [CLIP_NAME.search(path.name) for path in (row.audio, row.image)]
    if not all(found):
        return
    audio, image = (match.group()[_MODALITY_FIELD:] for match in found)
    if audio != image:
        raise CibaError(
            f'{source} pairs {row.audio.name} with {row.image.name}, which is another clip.'
        )
