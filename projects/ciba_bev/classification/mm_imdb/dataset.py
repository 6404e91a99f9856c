"""MM-IMDB, read from its HDF5 file into memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Sequence

import numpy as np
import torch

from ...errors import CibaError, ConfigError
from ...registry import DATASETS
from ..batches import InMemoryDataset

if TYPE_CHECKING:
    import h5py

# Modality to key in the file.
KEYS = {'text': 'features', 'image': 'vgg_features'}
LABELS = 'genres'
# The published partition, as row numbers.
SPLITS = {'train': (0, 15552), 'val': (15552, 18160), 'test': (18160, 25959)}


@DATASETS.register_module()
class MMIMDBDataset(InMemoryDataset):
    """One split of MM-IMDB.

    Args:
        file: ``multimodal_imdb.hdf5``, with ``features`` (N, 300) of the plots, ``vgg_features``
            (N, 4096) of the posters and ``genres`` (N, 23) of zeros and ones.
        split: ``'train'``, ``'val'`` or ``'test'``. Its rows are those of the file's attribute of
            that name, or the published ones if there is no such attribute.
        inputs: Modalities to read, of ``'text'`` and ``'image'``.

    Attributes:
        classes: Number of genres.
        shapes: Shape of a sample's inputs, by modality.

    Raises:
        ConfigError: There is no such modality or split.
        CibaError: The file, a key or rows are missing, or a value is impossible; the message names
            file, key and row.
    """

    def __init__(
        self,
        file: str = 'data/mm_imdb/multimodal_imdb.hdf5',
        split: str = 'train',
        inputs: Sequence[str] = ('text', 'image'),
    ) -> None:
        # Slow to import, and not needed by other data sets.
        import h5py

        unknown = [name for name in inputs if name not in KEYS]
        if unknown or split not in SPLITS:
            raise ConfigError(
                f'MMIMDBDataset: inputs {list(inputs)} must be of {list(KEYS)}, and split '
                f'{split!r} of {list(SPLITS)}.'
            )
        if not Path(file).is_file():
            raise CibaError(
                f'{file}: there is no such file. It is multimodal_imdb.hdf5 of MM-IMDB; see '
                'docs/data.md.'
            )
        try:
            with h5py.File(file, 'r') as content:
                first, last = (int(row) for row in content.attrs.get(split, SPLITS[split]))
                rows = slice(first, last)
                labels = _read(content, file, LABELS, rows)
                values = {name: _read(content, file, KEYS[name], rows) for name in inputs}
        except CibaError:
            raise
        except Exception as error:
            # h5py raises all kinds of exceptions for damaged files.
            reason = ' '.join(str(error).split())
            raise CibaError(
                f'{file}: not a readable HDF5 file ({reason}). Download it again.'
            ) from error
        invalid = np.flatnonzero(~np.isin(labels, (0, 1)).all(1))
        if invalid.size:
            raise CibaError(
                f'{file}: {LABELS}, row {first + int(invalid[0])}: labels must be 0 or 1 '
                f'({invalid.size} such rows).'
            )
        self.file = file
        self.classes = labels.shape[1]
        self.shapes = {name: value.shape[1:] for name, value in values.items()}
        super().__init__(
            {name: torch.from_numpy(value) for name, value in values.items()},
            torch.from_numpy(labels),
            [f'row {row}' for row in range(first, last)],
        )

    def source(self, name: str) -> str:
        """Return the file and key of a modality or of ``'labels'``, for messages.

        Args:
            name: The modality, or ``'labels'``.

        Returns:
            The file and the key.
        """
        return f'{self.file}, {KEYS.get(name, LABELS)}'


def _read(content: h5py.File, file: str, key: str, rows: slice) -> np.ndarray:
    """Return rows of a key as float32."""
    if key not in content:
        raise CibaError(f'{file}: has no {key}; it has {", ".join(content) or "nothing"}.')
    stored = content[key]
    if stored.ndim != 2 or len(stored) < rows.stop:
        raise CibaError(
            f'{file}: {key} has shape {stored.shape}, but rows {rows.start} to {rows.stop - 1} of '
            'a table are needed. Is the download complete?'
        )
    values = stored[rows].astype(np.float32)
    invalid = np.flatnonzero(~np.isfinite(values).all(1))
    if invalid.size:
        raise CibaError(
            f'{file}: {key}, row {rows.start + int(invalid[0])}: a value is NaN or infinite '
            f'({invalid.size} such rows).'
        )
    return values
