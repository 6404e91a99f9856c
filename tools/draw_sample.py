"""Draw a nuScenes key frame: six cameras with boxes, and a bird's-eye view.

Examples:
    python tools/draw_sample.py --dataroot data/nuscenes --version v1.0-mini --sample 0 \
        --out sample.png
    python tools/draw_sample.py --dataroot data/nuscenes --version v1.0-mini --sample 0 \
        --results work_dirs/results_nusc.json --out detections.png
    python tools/draw_sample.py --dataroot data/nuscenes --version v1.0-mini --sample 0 \
        --compare teacher teacher.json --compare student student.json --out row.png
"""

from __future__ import annotations

import argparse

from ciba_bev.errors import exit_with_message
from ciba_bev.visualization.key_frame import draw_detectors, draw_key_frame


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--dataroot', required=True, help='nuScenes root')
    parser.add_argument('--version', default='v1.0-mini', help='table folder (%(default)s)')
    parser.add_argument('--sample', default='0', help='sample token or number (%(default)s)')
    parser.add_argument('--results', help='detections to draw, in the nuScenes result format')
    parser.add_argument(
        '--compare',
        nargs=2,
        action='append',
        metavar=('NAME', 'RESULTS'),
        help='draw ground truth and detections side by side, from above (repeatable)',
    )
    parser.add_argument(
        *('--score-threshold', '--score-thr'),
        type=float,
        default=0.3,
        help='minimum score of drawn detections (%(default)s)',
    )
    parser.add_argument(
        '--points-on-images', action='store_true', help='also draw the LiDAR points on the cameras'
    )
    parser.add_argument('--out', required=True, help='picture to write (PNG)')
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    args = parser.parse_args(arguments)
    if args.compare and (args.results or args.points_on_images):
        parser.error('--compare has no cameras; leave out --results and --points-on-images')
    return args


def main(arguments: list[str] | None = None) -> None:
    """Draw the sample.

    Args:
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_args(arguments)

    def run() -> None:
        frame = (args.dataroot, args.version, args.out, args.sample)
        if args.compare:
            draw_detectors(*frame, dict(args.compare), args.score_threshold)
        else:
            draw_key_frame(*frame, args.results, args.score_threshold, args.points_on_images)
        print(f'{args.out} written')

    exit_with_message(run, args.traceback)


if __name__ == '__main__':
    main()
