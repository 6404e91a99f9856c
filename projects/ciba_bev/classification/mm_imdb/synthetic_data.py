"""Synthetic MM-IMDB: a small file in its format, whose modalities share a given part."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import CibaError
from ...files import written_whole
from .dataset import SPLITS

TEXT_CHANNELS, IMAGE_CHANNELS, GENRES = 300, 4096, 23
# Latent dimensions of each modality.
_LATENT = 24


def count_rows(training: int) -> int:
    """Rows of all splits together, in the real file's proportions.

    Args:
        training: Rows of the training split.
    """
    return round(training * SPLITS['test'][1] / SPLITS['train'][1])


def write_synthetic_data(
    folder: str | Path, seed: int = 0, shared: float = 0.5, rows: int | None = 2400
) -> Path:
    """Write ``multimodal_imdb.hdf5``.

    Text and image features are noisy linear mixtures of 24 latent numbers each, of which a share is
    the same in both. Every genre is one side of a plane through all latent numbers, shared or not,
    at a height that makes genres as rare as in a long-tailed distribution. So each modality knows
    something of every genre that the other does not.

    Args:
        folder: Where the file goes.
        seed: The same seed writes the same values.
        shared: Share of the latent numbers that both modalities have, 0 to 1.
        rows: Of all splits together, in the proportions of the real file; None for as many. The
            file's attributes say which are which.

    Returns:
        The file.

    Raises:
        CibaError: The share is not from 0 to 1.
    """
    import h5py

    if not 0 <= shared <= 1:
        raise CibaError(f'shared is {shared}; it must be from 0 to 1.')
    total = SPLITS['test'][1]
    rows = total if rows is None else rows
    generator = np.random.default_rng(seed)
    common = round(shared * _LATENT)
    latent = generator.standard_normal((rows, 2 * _LATENT - common)).astype(np.float32)
    parts = {'features': latent[:, :_LATENT], 'vgg_features': latent[:, _LATENT - common :]}
    planes = generator.standard_normal((latent.shape[1], GENRES)) / latent.shape[1] ** 0.5
    # From every second film to one in fifty.
    frequencies = np.geomspace(0.5, 0.02, GENRES)
    heights = latent @ planes
    limits = [np.quantile(column, 1 - share) for column, share in zip(heights.T, frequencies)]
    genres = heights > np.array(limits)
    path = Path(folder) / 'multimodal_imdb.hdf5'
    with written_whole(path) as partial, h5py.File(partial, 'w', track_order=False) as content:
        for key, channels in (('features', TEXT_CHANNELS), ('vgg_features', IMAGE_CHANNELS)):
            mixing = generator.standard_normal((_LATENT, channels)).astype(np.float32)
            values = parts[key] @ mixing / _LATENT**0.5
            values += 0.5 * generator.standard_normal(values.shape, dtype=np.float32)
            content.create_dataset(key, data=values, track_times=False)
        content.create_dataset('genres', data=genres.astype(np.int32), track_times=False)
        for split, limits in SPLITS.items():
            content.attrs[split] = [round(limit * rows / total) for limit in limits]
    return path
