"""Reading LiDAR files and images to tell whether they hold what they should."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import Iterator, Sequence

import mmcv
import numpy as np

from .data_checks import DataFile, DataProblem

# Metres. Farther than any LiDAR sees.
_REACH = 10_000.0
# Numbers a point may have in the formats in use.
_POINT_FEATURES = range(3, 9)
# Share of the variance between a point's numbers, below which they are taken to be mixed up.
_LEAST_SHARE = 0.02
_CLEARLY_MORE = 3.0

LIDAR_REMEDY = (
    'If the file was written with another number of features, say so in the info file '
    '(num_pts_feats) and in the pipeline (load_dim); else copy or unpack it again.'
)
IMAGE_REMEDY = 'Copy or unpack it again.'
SIZE_REMEDY = (
    'Multiply the first two rows of cam2img by the factor by which the images were resized. If the '
    'camera really looks that far off its centre, raise max_center_offset of '
    'ciba_bev.CheckDataHook.'
)


def content_problem(file: DataFile, max_center_offset: float | None = None) -> DataProblem | None:
    """Read a file that is there and say what is wrong with what it holds.

    Args:
        file: The file.
        max_center_offset: For an image whose principal point is known, how far that may lie from
            the middle, as a share of width and height; None for anywhere.

    Returns:
        What is wrong with it, or None.
    """
    try:
        with open(file.path, 'rb') as stream:
            content = stream.read()
    except OSError as error:
        finding, remedy = f'the file cannot be read: {error.strerror}', IMAGE_REMEDY
    else:
        if file.point_features:
            finding, remedy = _finding_of_points(content, file.point_features), LIDAR_REMEDY
        else:
            image, finding = _decode(content)
            remedy = IMAGE_REMEDY
            if finding is None and file.center and max_center_offset is not None:
                finding = _finding_of_size(image.shape, file.center, max_center_offset)
                remedy = SIZE_REMEDY
    if finding is None:
        return None
    return DataProblem(file.path, file.sample_token, file.field, finding, remedy)


def content_problems(
    files: Sequence[DataFile],
    max_seconds: float = float('inf'),
    max_center_offset: float | None = None,
) -> list[DataProblem]:
    """Read files, one after the other, as long as there is time.

    Args:
        files: The files.
        max_seconds: After this time the rest is left out.
        max_center_offset: As for :func:`content_problem`.

    Returns:
        The problems, in the files' order. Of files with the same wrong format, the first.
    """
    deadline = time.monotonic() + max_seconds
    problems = []
    for file in files:
        if time.monotonic() > deadline:
            break
        problem = content_problem(file, max_center_offset)
        # What is wrong with a format is wrong with all files; one of them is enough to say so.
        if problem is not None and not (
            problem.remedy in (LIDAR_REMEDY, SIZE_REMEDY)
            and any(problem.finding == other.finding for other in problems)
        ):
            problems.append(problem)
    return problems


def _finding_of_points(content: bytes, features: int) -> str | None:
    values = np.frombuffer(content[: len(content) // 4 * 4], np.float32)
    points = values[: values.size // features * features].reshape(-1, features)
    # Mixed-up numbers look like anything, so that is looked for first.
    likely = likely_point_features(values, features)
    if likely is not None:
        return (
            f'the points seem to have {likely} numbers each, not the {features} that the info file '
            'states'
        )
    damaged = int((~np.isfinite(points)).any(1).sum())
    if damaged:
        return f'{damaged} of its {len(points)} points hold NaN or infinity'
    if len(points) and np.abs(points[:, :3]).max() > _REACH:
        return f'a coordinate is {np.abs(points[:, :3]).max():.3g} m'
    return None


def likely_point_features(values: np.ndarray, stated: int) -> int | None:
    """Tell from the numbers in a LiDAR file that a point has another number of them than stated.

    x, y, z, intensity and the rest differ in size. Read with the right number of features, part of
    the variance of log(1 + |value|) lies between the columns; read with a wrong one, every column
    holds a mixture of all and next to nothing does.

    Args:
        values: All numbers in the file, (N,).
        stated: How many a point is said to have.

    Returns:
        How many it seems to have; None if nothing contradicts the stated number.
    """
    if values.size < 100 * max(_POINT_FEATURES):
        return None
    sizes = np.log1p(np.abs(np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)))

    def share(features: int) -> float:
        columns = sizes[: sizes.size // features * features].reshape(-1, features)
        return columns.mean(0).var() / max(columns.var(), 1e-12)

    shares = {features: share(features) for features in _POINT_FEATURES}
    most = max(shares.values())
    if most <= _CLEARLY_MORE * share(stated) + _LEAST_SHARE:
        return None
    # Twice the right number explains as much.
    return next(features for features, found in shares.items() if found > 0.9 * most)


def _decode(content: bytes) -> tuple[np.ndarray | None, str | None]:
    """The image in a file, as the pipelines decode it, and what is wrong with it."""
    warnings: list[str] = []
    try:
        with _standard_error_in(warnings):
            image = mmcv.imfrombytes(content, flag='unchanged')
    # OpenCV's own exceptions derive from Exception alone.
    except Exception as error:
        return None, f'the image cannot be decoded ({type(error).__name__})'
    if image is None:
        return None, 'the image is damaged: it cannot be decoded'
    # libjpeg fills up what it cannot decode with grey and prints what was wrong.
    damage = next((line for line in warnings if 'corrupt' in line.lower()), None)
    return image, None if damage is None else f'the image is damaged inside ({damage.strip()})'


@contextmanager
def _standard_error_in(lines: list[str]) -> Iterator[None]:
    """Collect what C libraries print to the standard error stream."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with tempfile.TemporaryFile() as collected:
            os.dup2(collected.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(saved, 2)
                collected.seek(0)
                lines += collected.read().decode(errors='replace').splitlines()
    finally:
        os.close(saved)


def _finding_of_size(
    shape: Sequence[int], center: tuple[float, float], max_offset: float
) -> str | None:
    height, width = shape[:2]
    offsets = (center[0] / width - 0.5, center[1] / height - 0.5)
    if max(map(abs, offsets)) <= max_offset:
        return None
    return (
        f'the image has {width} x {height} pixels, but its calibration (cam2img) has the middle at '
        f'({center[0]:.0f}, {center[1]:.0f}), as of one of about {2 * center[0]:.0f} x '
        f'{2 * center[1]:.0f}'
    )
