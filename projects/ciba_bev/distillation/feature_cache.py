"""Features of the two frozen models on disk, for data sets small enough to keep them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Sequence

import torch
from torch import Tensor

from ..errors import CibaError

_RESERVE_BYTES = 2**30


class FeatureCache:
    """Pairs of features by sample, in a folder that belongs to one pair of models and taps.

    Other weights or another tap lead to another folder, so features are never mixed up. Features
    are kept in half precision.

    Args:
        folder: Where caches lie; one subfolder is made in it.
        pair: What defines the features (configs, weights, taps), as plain values.
    """

    def __init__(self, folder: str | os.PathLike, pair: dict[str, Any]) -> None:
        key = hashlib.sha256(json.dumps(pair, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = Path(folder, key)
        self.folder.mkdir(parents=True, exist_ok=True)

    def get(self, samples: Sequence[Any], device: torch.device) -> tuple[Tensor, Tensor] | None:
        """The features of a batch, if all of its samples are there.

        Args:
            samples: The batch's data samples.
            device: Where the features shall be.

        Returns:
            (B, C', \\*grid) of the teacher and (B, C, \\*grid) of the student, float32; or None.
        """
        files = [self._file(sample) for sample in samples]
        if not all(file.is_file() for file in files):
            return None
        pairs = [torch.load(file, map_location=device, weights_only=True) for file in files]
        teacher, student = (torch.stack(features).float() for features in zip(*pairs))
        return teacher, student

    def put(self, samples: Sequence[Any], teacher: Tensor, student: Tensor) -> None:
        """Keep the features of a batch.

        Args:
            samples: The batch's data samples.
            teacher: (B, C', \\*grid).
            student: (B, C, \\*grid).

        Raises:
            CibaError: The disk is nearly full.
        """
        for sample, pair in zip(samples, zip(teacher, student)):
            file = self._file(sample)
            halves = tuple(feature.detach().cpu().half().clone() for feature in pair)
            needed = sum(feature.numel() * feature.element_size() for feature in halves)
            if shutil.disk_usage(self.folder).free < needed + _RESERVE_BYTES:
                raise CibaError(
                    f'{self.folder}: the disk is nearly full. Give feature_cache a folder on a '
                    'larger one, or None to compute features anew in every epoch.'
                )
            partial = file.with_name(f'.{file.name}.{os.getpid()}')
            torch.save(halves, partial)
            os.replace(partial, file)

    def _file(self, sample: Any) -> Path:
        metainfo = getattr(sample, 'metainfo', {})
        name = metainfo.get('token') or metainfo.get('sample_idx')
        if name is None:
            raise CibaError(
                'a feature cache needs to tell samples apart: pack token or sample_idx '
                '(meta_keys of the pipeline), or set feature_cache=None.'
            )
        return self.folder / f'{hashlib.sha256(str(name).encode()).hexdigest()[:32]}.pt'
