"""Draws a nuScenes key frame: six cameras with boxes, and points and boxes from above.

Examples:
    python tools/draw_sample.py --dataroot data/nuscenes --version v1.0-mini --sample 0 \
        --out sample.png
    python tools/draw_sample.py --dataroot data/nuscenes --version v1.0-mini --sample 0 \
        --results work_dirs/results_nusc.json --out detections.png
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from nuscenes import NuScenes

from ciba_bev.errors import CibaError
from ciba_bev.visualization import draw_nuscenes_sample


def parse_args() -> argparse.Namespace:
    """Reads the command line.

    Returns:
        The arguments.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--dataroot', required=True, help='nuScenes root')
    parser.add_argument('--version', default='v1.0-mini', help='table folder (%(default)s)')
    parser.add_argument('--sample', default='0', help='sample token or number (%(default)s)')
    parser.add_argument('--results', help='detections to draw, in the nuScenes result format')
    parser.add_argument(
        '--score-threshold',
        type=float,
        default=0.3,
        help='detections with a lower score are left out (%(default)s)',
    )
    parser.add_argument(
        '--points-on-images', action='store_true', help='draw the LiDAR points on the cameras, too'
    )
    parser.add_argument('--out', required=True, help='picture to write (PNG)')
    return parser.parse_args()


def load_predictions(path: str, sample_token: str) -> list[dict[str, Any]]:
    """Reads the detections of one sample.

    Args:
        path: JSON file in the nuScenes detection result format.
        sample_token: Token of the sample.

    Returns:
        Its detections.

    Raises:
        CibaError: If the file is missing or of another format, or lacks the sample.
    """
    try:
        results = json.loads(Path(path).read_text(encoding='utf-8'))['results']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CibaError(f'{path} is no nuScenes detection result file: {error!r}') from error
    if sample_token not in results:
        raise CibaError(f'{path} has no detections for sample {sample_token}; draw another sample')
    return results[sample_token]


def find_sample(nusc: NuScenes, sample: str) -> str:
    """Returns the token of a sample given by token or number.

    Args:
        nusc: The data set.
        sample: Token or number.

    Returns:
        The token.

    Raises:
        CibaError: If there is no such sample.
    """
    if sample.isdigit() and int(sample) < len(nusc.sample):
        return nusc.sample[int(sample)]['token']
    if any(record['token'] == sample for record in nusc.sample):
        return sample
    raise CibaError(
        f'no sample {sample!r} in {nusc.dataroot}; give a token or a number below '
        f'{len(nusc.sample)}'
    )


def main() -> None:
    """Draws the sample."""
    args = parse_args()
    try:
        if not (Path(args.dataroot) / args.version / 'sample.json').is_file():
            raise CibaError(f'{args.dataroot} has no nuScenes tables of version {args.version}')
        nusc = NuScenes(version=args.version, dataroot=args.dataroot, verbose=False)
        token = find_sample(nusc, args.sample)
        predictions = load_predictions(args.results, token) if args.results else None
        draw_nuscenes_sample(
            nusc,
            token,
            predictions=predictions,
            score_threshold=args.score_threshold,
            out_file=args.out,
            points_on_images=args.points_on_images,
        )
    except CibaError as error:
        sys.exit(f'Error: {error}')
    print(f'{args.out} written')


if __name__ == '__main__':
    main()
