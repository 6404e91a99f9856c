"""A synthetic data set in MM-IMDB's format, whose modalities share a given amount."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...files import atomic_write
from ..latent_model import require_share
from .dataset import SPLITS

TEXT_CHANNELS, IMAGE_CHANNELS, GENRES = 300, 4096, 23
# Latent dimensions of each modality.
_LATENT = 24


def count_rows(training: int) -> int:
    """Return the number of rows of all splits, in the proportions of the real file.

    Args:
        training: Number of rows of the training split.

    Returns:
        The number of rows of all splits.
    """
    return round(training * SPLITS['test'][1] / SPLITS['train'][1])


def write_synthetic_data(
    folder: str | Path, seed: int = 0, shared: float = 0.5, rows: int | None = 2400
) -> Path:
    """Write ``multimodal_imdb.hdf5``.

    Text and image features are noisy linear mixtures of 24 latent numbers each, some of which both
    have in common. Every genre is a half-space of all latent numbers, common or not, at a distance
    that gives the genres a long-tailed distribution. Each modality therefore contains information
    about every genre that the other does not.

    Args:
        folder: Folder of the file.
        seed: The same seed writes the same values.
        shared: Share of the latent numbers that both modalities have in common, 0 to 1.
        rows: Number of rows of all splits, in the proportions of the real file; None for as many
            as the real file has. The file's attributes state the rows of each split.

    Returns:
        The file.

    Raises:
        ConfigError: The share is not from 0 to 1.
    """
    import h5py

    require_share(shared)
    total = SPLITS['test'][1]
    rows = total if rows is None else rows
    generator = np.random.default_rng(seed)
    common = round(shared * _LATENT)
    latent = generator.standard_normal((rows, 2 * _LATENT - common)).astype(np.float32)
    parts = {'features': latent[:, :_LATENT], 'vgg_features': latent[:, _LATENT - common :]}
    planes = generator.standard_normal((latent.shape[1], GENRES)) / latent.shape[1] ** 0.5
    # From one in two films to one in fifty.
    frequencies = np.geomspace(0.5, 0.02, GENRES)
    heights = latent @ planes
    limits = [np.quantile(column, 1 - share) for column, share in zip(heights.T, frequencies)]
    genres = heights > np.array(limits)
    path = Path(folder) / 'multimodal_imdb.hdf5'
    with atomic_write(path) as partial, h5py.File(partial, 'w', track_order=False) as content:
        for key, channels in (('features', TEXT_CHANNELS), ('vgg_features', IMAGE_CHANNELS)):
            mixing = generator.standard_normal((_LATENT, channels)).astype(np.float32)
            values = parts[key] @ mixing / _LATENT**0.5
            values += 0.5 * generator.standard_normal(values.shape, dtype=np.float32)
            content.create_dataset(key, data=values, track_times=False)
        content.create_dataset('genres', data=genres.astype(np.int32), track_times=False)
        for split, limits in SPLITS.items():
            content.attrs[split] = [round(limit * rows / total) for limit in limits]
    return path
