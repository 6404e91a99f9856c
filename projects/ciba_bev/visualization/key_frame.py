"""Draw a key frame of a nuScenes data set into a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Mapping

from nuscenes import NuScenes

from ..errors import CibaError, ConfigError
from ..files import require_not_read
from .comparison import draw_comparison
from .nuscenes_sample import draw_nuscenes_sample, read_key_frame
from .sample_picture import write_picture


def draw_key_frame(
    data_root: str | os.PathLike,
    version: str,
    out_file: str | os.PathLike,
    sample: str | None = None,
    results_file: str | os.PathLike | None = None,
    score_threshold: float = 0.3,
    points_on_images: bool = False,
) -> None:
    """Draw the cameras, points and boxes of a key frame.

    Args:
        data_root: The nuScenes root.
        version: Name of the folder of tables, such as ``v1.0-mini``.
        out_file: The picture to write (PNG).
        sample: Token or index of the key frame; None for the one in the middle.
        results_file: Detections to draw, in nuScenes' result format; None to draw annotations only.
        score_threshold: Detections with a lower score are not drawn.
        points_on_images: Whether to draw the LiDAR points into the images, too.

    Raises:
        CibaError: The tables or the sample do not exist, a file is missing or damaged, or the
            picture cannot be written.
    """
    if results_file is not None:
        require_not_read(out_file, results_file)
    nusc = _open(data_root, version)
    token = find_sample(nusc, sample)
    draw_nuscenes_sample(
        nusc,
        token,
        predictions=None if results_file is None else load_detections(results_file, token),
        score_threshold=score_threshold,
        out_file=out_file,
        points_on_images=points_on_images,
    )


def draw_detectors(
    data_root: str | os.PathLike,
    version: str,
    out_file: str | os.PathLike,
    sample: str | None,
    results: Mapping[str, str | os.PathLike],
    score_threshold: float = 0.3,
) -> None:
    """Draw a key frame from above: its ground truth, and what each of several detectors finds.

    Args:
        data_root: The nuScenes root.
        version: Name of the folder of tables, such as ``v1.0-mini``.
        out_file: The picture to write (PNG).
        sample: Token or index of the key frame; None for the one in the middle.
        results: Detections in nuScenes' result format, by the name of the detector.
        score_threshold: Detections with a lower score are not drawn.

    Raises:
        CibaError: As :func:`draw_key_frame`.
    """
    require_not_read(out_file, *results.values())
    nusc = _open(data_root, version)
    token = find_sample(nusc, sample)
    frame = read_key_frame(nusc, token)
    detections = {
        name: frame.select(load_detections(file, token), score_threshold)
        for name, file in results.items()
    }
    write_picture(draw_comparison(frame.points, frame.ground_truth, detections), out_file)


def _open(data_root: str | os.PathLike, version: str) -> NuScenes:
    if not Path(data_root, version, 'sample.json').is_file():
        raise CibaError(f'{data_root} has no nuScenes tables of version {version}.')
    return NuScenes(version=version, dataroot=str(data_root), verbose=False)


def find_sample(nusc: NuScenes, sample: str | None) -> str:
    """Return the token of a key frame.

    Args:
        nusc: The data set.
        sample: Its token or its index; None for the one in the middle.

    Returns:
        The token.

    Raises:
        ConfigError: There is no such key frame.
    """
    if sample is None:
        return nusc.sample[len(nusc.sample) // 2]['token']
    if sample.isdigit() and int(sample) < len(nusc.sample):
        return nusc.sample[int(sample)]['token']
    if any(record['token'] == sample for record in nusc.sample):
        return sample
    raise ConfigError(
        f'there is no sample {sample!r} in {nusc.dataroot}. Give a token or a number below '
        f'{len(nusc.sample)}.'
    )


def load_detections(results_file: str | os.PathLike, sample_token: str) -> list[dict[str, Any]]:
    """Read the detections of one key frame.

    Args:
        results_file: JSON file in the nuScenes detection result format.
        sample_token: Token of the key frame.

    Returns:
        The detections as in the file.

    Raises:
        CibaError: The file does not exist or is of another format, or the sample is not in it.
    """
    try:
        results = json.loads(Path(results_file).read_text(encoding='utf-8'))['results']
        detections = results.get(sample_token)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CibaError(
            f'{results_file}: not a nuScenes detection result file ({error!r}).'
        ) from error
    if detections is None:
        raise CibaError(
            f'{results_file} has no detections for sample {sample_token}. Draw another sample.'
        )
    return detections
