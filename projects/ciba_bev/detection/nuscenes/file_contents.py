"""Check the contents of LiDAR files and images."""

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

# Metres; larger than the range of any LiDAR.
_REACH = 10_000.0
# Numbers of features of a point in common formats.
_POINT_FEATURES = range(3, 9)
# Fraction of the variance between features, below which they are assumed to be mixed.
_MIN_SHARE = 0.02
_CLEARLY_MORE = 3.0

LIDAR_REMEDY = (
    'If the file was written with another number of features, set it in the info file '
    '(num_pts_feats) and in the pipeline (load_dim); else copy or unpack it again.'
)
IMAGE_REMEDY = 'Copy or unpack it again.'
SIZE_REMEDY = (
    'Multiply the first two rows of cam2img by the factor by which the images were resized. If the '
    'camera really looks that far off its centre, raise max_center_offset of '
    'ciba_bev.CheckDataHook.'
)


def content_problem(file: DataFile, max_center_offset: float | None = None) -> DataProblem | None:
    """Check the content of an existing file.

    Args:
        file: The file.
        max_center_offset: Maximum distance of a known principal point from the middle of the image,
            as a fraction of width and height; None for no limit.

    Returns:
        The problem, or None.
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
    """Check the contents of files within a time limit.

    Args:
        files: The files.
        max_seconds: After this time, the remaining files are skipped.
        max_center_offset: See :func:`content_problem`.

    Returns:
        The problems, in the order of the files; for files with the same invalid format, the first.
    """
    deadline = time.monotonic() + max_seconds
    problems = []
    for file in files:
        if time.monotonic() > deadline:
            break
        problem = content_problem(file, max_center_offset)
        # All files have the same invalid format; report only the first.
        if problem is not None and not (
            problem.remedy in (LIDAR_REMEDY, SIZE_REMEDY)
            and any(problem.finding == other.finding for other in problems)
        ):
            problems.append(problem)
    return problems


def _finding_of_points(content: bytes, features: int) -> str | None:
    values = np.frombuffer(content[: len(content) // 4 * 4], np.float32)
    points = values[: values.size // features * features].reshape(-1, features)
    # Checked first, because mixed features can look like other problems.
    likely = likely_point_features(values, features)
    if likely is not None:
        return (
            f'the points seem to have {likely} numbers each, not the {features} that the info file '
            'states'
        )
    damaged = int((~np.isfinite(points)).any(1).sum())
    if damaged:
        return f'{damaged} of its {len(points)} points contain NaN or infinity'
    if len(points) and np.abs(points[:, :3]).max() > _REACH:
        return f'a coordinate is {np.abs(points[:, :3]).max():.3g} m'
    return None


def likely_point_features(values: np.ndarray, stated: int) -> int | None:
    """Guess the number of features of a point from the numbers in a LiDAR file.

    Features such as x, z and intensity differ in magnitude. With the right number of features, a
    part of the variance of log(1 + |value|) is between the columns; with another one, every column
    is a mixture of all features, and hardly any variance is between them.

    Args:
        values: All numbers in the file, (N,).
        stated: The stated number of features.

    Returns:
        The guessed number; None if the stated one is plausible.
    """
    if values.size < 100 * max(_POINT_FEATURES):
        return None
    sizes = np.log1p(np.abs(np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)))

    def share(features: int) -> float:
        columns = sizes[: sizes.size // features * features].reshape(-1, features)
        return columns.mean(0).var() / max(columns.var(), 1e-12)

    shares = {features: share(features) for features in _POINT_FEATURES}
    most = max(shares.values())
    if most <= _CLEARLY_MORE * share(stated) + _MIN_SHARE:
        return None
    # Multiples of the right number explain as much variance.
    return next(features for features, found in shares.items() if found > 0.9 * most)


def _decode(content: bytes) -> tuple[np.ndarray | None, str | None]:
    """Decode an image as the pipelines do; return the image and its problem, if any."""
    warnings: list[str] = []
    try:
        with _standard_error_in(warnings):
            image = mmcv.imfrombytes(content, flag='unchanged')
    # OpenCV's exceptions derive directly from Exception.
    except Exception as error:
        return None, f'the image cannot be decoded ({type(error).__name__})'
    if image is None:
        return None, 'the image is damaged: it cannot be decoded'
    # libjpeg fills parts that it cannot decode with grey, and prints a warning.
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
