"""Prepare RAVDESS for training from its raw clips (see docs/data.md).

Examples:
    python tools/prepare_ravdess.py --clips downloads/ravdess --out data/ravdess
    python tools/prepare_ravdess.py --clips downloads/ravdess --out data/ravdess_actors \
        --split actor
"""

from __future__ import annotations

import argparse
import os
import sys

from ciba_bev.classification.ravdess.dataset import IMAGE_SIZE
from ciba_bev.classification.ravdess.preparation import (
    BROKEN_FILE,
    FRAMES,
    RATE,
    prepare_ravdess,
)
from ciba_bev.errors import exit_with_message


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--clips', required=True, help='folder with the mp4 clips, searched recursively'
    )
    parser.add_argument('--out', required=True, help='folder of the prepared data')
    parser.add_argument(
        '--split',
        default='clip',
        help="'clip': clips at random; 'actor': whole actors, the stricter test; or a folder with "
        'train.txt, val.txt and test.txt, one clip per line (%(default)s)',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the split (%(default)s)')
    parser.add_argument(
        '--image-size',
        type=int,
        nargs=2,
        metavar=('ROWS', 'COLUMNS'),
        default=IMAGE_SIZE,
        help='size of the images; image_size of the config must be the same (%(default)s)',
    )
    parser.add_argument(
        '--frames',
        type=int,
        default=FRAMES,
        help='length of the sound, in steps of 512 samples (%(default)s)',
    )
    parser.add_argument(
        '--rate', type=int, default=RATE, help='sampling rate of the sound in Hz (%(default)s)'
    )
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count() or 1, help='number of processes (%(default)s)'
    )
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Prepare the data and print a summary.

    Args:
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_args(arguments)

    def run() -> None:
        result = prepare_ravdess(
            args.clips,
            args.out,
            split=args.split,
            image_size=args.image_size,
            frames=args.frames,
            rate=args.rate,
            seed=args.seed,
            workers=args.workers,
        )
        print(
            f'{result.prepared} clips decoded, {result.resumed} done before, '
            f'{len(result.broken)} broken'
            + (f' (listed in {args.out}/{BROKEN_FILE}).' if result.broken else '.')
        )
        print(', '.join(f'{part}: {count}' for part, count in result.samples.items()) + ' samples.')
        print(
            f'Coefficients of the training clips: mean {result.audio_mean:.2f}, standard deviation '
            f'{result.audio_std:.2f} (audio_mean and audio_std in '
            'configs/_base_/classification/ravdess.py).'
        )

    try:
        exit_with_message(run, args.traceback)
    except KeyboardInterrupt:
        print('\nStopped. The same command continues from here.', file=sys.stderr)
        sys.exit(130)


if __name__ == '__main__':
    main()
