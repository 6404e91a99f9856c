"""Draw the detections in a result file of the nuScenes metric."""

from __future__ import annotations

import json
import os
from pathlib import Path

from nuscenes import NuScenes

from ..detection.nuscenes.info_files import load_info_file
from ..errors import CibaError
from ..files import make_folder
from .nuscenes_sample import draw_nuscenes_sample


def draw_predictions(
    results_file: str | os.PathLike,
    info_file: str | os.PathLike,
    data_root: str | os.PathLike,
    out_dir: str | os.PathLike,
    count: int,
    score_threshold: float,
) -> list[Path]:
    """Draw detections on the cameras and in bird's-eye view, for frames spread over the results.

    Args:
        results_file: A nuScenes detection result file (JSON).
        info_file: The info file of the frames, in any folder; it states the version of the tables.
        data_root: The nuScenes root: tables, images and points.
        out_dir: Folder for the pictures, named ``<sample token>.png``.
        count: Number of frames.
        score_threshold: Boxes with a lower score are not drawn.

    Returns:
        The files of the pictures.

    Raises:
        CibaError: The result file or the tables do not exist.
    """
    results_file, out_dir = Path(results_file), Path(out_dir)
    if not results_file.is_file():
        raise CibaError(
            f'{results_file}: there is no such result file. It is written by the nuScenes metric; '
            "the config's test_evaluator has to be one."
        )
    results = json.loads(results_file.read_text(encoding='utf-8'))['results']
    version = load_info_file(info_file)['metainfo']['version']
    if not Path(data_root, version, 'sample.json').is_file():
        raise CibaError(
            f'{Path(data_root, version)}: there are no nuScenes tables in this folder, which '
            f'pictures are drawn from. {info_file} is of version {version}; the folder is in the '
            "data set's data_root."
        )
    nusc = NuScenes(version=version, dataroot=str(data_root), verbose=False)
    tokens = sorted(results, key=lambda token: nusc.get('sample', token)['timestamp'])
    count = min(count, len(tokens))
    make_folder(out_dir)
    pictures = []
    for index in range(count):
        # The middle of each of `count` equal intervals.
        token = tokens[(2 * index + 1) * len(tokens) // (2 * count)]
        picture = out_dir / f'{token}.png'
        draw_nuscenes_sample(
            nusc,
            token,
            predictions=results[token],
            score_threshold=score_threshold,
            out_file=str(picture),
        )
        pictures.append(picture)
    return pictures
