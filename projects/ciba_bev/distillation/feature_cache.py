"""Features of the two frozen models on disk, for data sets small enough to store them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any, Sequence, Tuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CibaError, ConfigError
from ..files import make_folder, write_file

_RESERVE_BYTES = 2**30
_ROLES = ('teacher', 'student')
_Pair = Tuple[NDArray[np.float16], ...]
_NO_NAMES = (
    'a cache of features needs to tell samples apart: pack data samples with token or sample_idx '
    '(meta_keys of the pipeline), or set feature_cache=None (Algorithm 1), cache_targets=False '
    '(Algorithm 2).'
)


class FeatureCache:
    """Pairs of features by sample, in a folder of their own for each pair of models and taps.

    Other weights or another tap give another folder, so features are never mixed up. Features are
    stored in half precision and returned rounded to it from the first time on, so training does not
    depend on what the cache holds.

    Args:
        folder: Parent folder of all caches; one subfolder is made in it.
        pair: What defines the features (configs, weights, taps), as plain values.

    Raises:
        CibaError: The folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str], pair: dict[str, Any]) -> None:
        key = hashlib.sha256(json.dumps(pair, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = Path(folder, key)
        make_folder(self.folder)

    def get(self, samples: Sequence[Any], device: torch.device) -> tuple[Tensor, Tensor] | None:
        r"""Return the features of a batch if all of its samples are stored.

        Args:
            samples: The batch's data samples.
            device: Device of the result.

        Returns:
            (B, C', \*grid) of the teacher and (B, C, \*grid) of the student, float32; or None.
            A file that is damaged counts as missing.

        Raises:
            ConfigError: The samples have no name that distinguishes them.
        """
        if not samples:
            raise ConfigError(_NO_NAMES)
        pairs = []
        for sample in samples:
            pair = _read(self._file(sample))
            if pair is None:
                return None
            pairs.append(pair)
        return _stack(pairs, device)

    def put(
        self, samples: Sequence[Any], teacher: Tensor, student: Tensor
    ) -> tuple[Tensor, Tensor]:
        r"""Store the features of a batch, and return them as :meth:`get` will.

        Args:
            samples: The batch's data samples. Features that are stored already are kept.
            teacher: (B, C', \*grid).
            student: (B, C, \*grid).

        Returns:
            (B, C', \*grid) and (B, C, \*grid), float32, rounded to half precision.

        Raises:
            ConfigError: The samples have no name that distinguishes them.
            CibaError: The disk is nearly full or cannot be written to, or a feature exceeds the
                range of half precision.
        """
        pairs = []
        for sample, features in zip(samples, zip(teacher, student)):
            file = self._file(sample)
            pair = _read(file)
            if pair is None:
                pair = tuple(feature.detach().cpu().half().numpy() for feature in features)
                self._write(file, pair)
            pairs.append(pair)
        return _stack(pairs, teacher.device)

    def _write(self, file: Path, pair: _Pair) -> None:
        for role, feature in zip(_ROLES, pair):
            if not np.isfinite(feature).all():
                raise CibaError(
                    f"feature_cache: the {role}'s feature has values beyond 65504, the largest "
                    'of half precision, in which features are stored. Set feature_cache=None.'
                )
        if (
            shutil.disk_usage(self.folder).free
            < sum(feature.nbytes for feature in pair) + _RESERVE_BYTES
        ):
            raise CibaError(
                f'{self.folder}: the disk is nearly full. Give feature_cache a folder on a '
                'larger one, or None to compute features anew in every epoch.'
            )
        # The checksums of this format reveal a damaged file; torch.load ignores its own.
        content = io.BytesIO()
        np.savez(content, teacher=pair[0], student=pair[1])
        write_file(file, content.getvalue())

    def _file(self, sample: Any) -> Path:
        return self.folder / f'{hashlib.sha256(identify(sample).encode()).hexdigest()[:32]}.npz'


def identify(sample: Any) -> str:
    """Return what identifies a data sample in all splits.

    Args:
        sample: A data sample with ``token``, or ``sample_idx``, among its meta information.

    Raises:
        ConfigError: It has neither.
    """
    metainfo = getattr(sample, 'metainfo', {})
    name = metainfo.get('token')
    if not name and 'sample_idx' in metainfo:
        # Counts the samples of one info file only.
        sources = [metainfo.get(key) for key in ('lidar_path', 'img_path', 'filename')]
        name = json.dumps([metainfo['sample_idx'], *sources], default=str)
    if not name:
        raise ConfigError(_NO_NAMES)
    return str(name)


def _read(file: Path) -> _Pair | None:
    """Return the pair in a file; None if there is no such file or it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as content:
            pair: _Pair = tuple(content[role] for role in _ROLES)
    # A damaged file may raise any kind of error.
    except Exception:
        return None
    return pair if all(feature.dtype == np.float16 for feature in pair) else None


def _stack(pairs: Sequence[_Pair], device: torch.device) -> tuple[Tensor, Tensor]:
    teacher, student = (torch.from_numpy(np.stack(features)) for features in zip(*pairs))
    return teacher.to(device).float(), student.to(device).float()
