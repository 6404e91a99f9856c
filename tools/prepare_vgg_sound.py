"""Prepare VGG-Sound for training from its clips and split files (see docs/data.md).

Examples:
    python tools/prepare_vgg_sound.py downloads/vggsound --splits downloads/vggsound_100 \
        --out data/vgg_sound --workers 16
"""

from __future__ import annotations

import argparse
import os
import sys

from ciba_bev.classification.clips import BROKEN_FILE
from ciba_bev.classification.vgg_sound.preparation import prepare_vgg_sound
from ciba_bev.errors import exit_with_message


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('clips', help='folder with the clips, searched recursively')
    parser.add_argument(
        '--splits',
        required=True,
        help='folder with all_classId_vid_dict.npy and category_encode_dict.npy, or vggsound.csv',
    )
    parser.add_argument('--out', default='data/vgg_sound', help='prepared data (%(default)s)')
    parser.add_argument(
        '--validation',
        type=int,
        default=50,
        help='clips of each class held out for validation, where the split files have none '
        '(%(default)s)',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the validation clips (%(default)s)'
    )
    parser.add_argument(
        '--audio-size',
        type=int,
        nargs=2,
        metavar=('BINS', 'FRAMES'),
        default=(513, 313),
        help='size of the spectrograms (%(default)s)',
    )
    parser.add_argument(
        '--frame-size',
        type=int,
        nargs=2,
        metavar=('ROWS', 'COLUMNS'),
        default=(256, 256),
        help='size of the frames (%(default)s)',
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
        result = prepare_vgg_sound(
            args.clips,
            args.splits,
            args.out,
            audio_size=args.audio_size,
            frame_size=args.frame_size,
            validation=args.validation,
            seed=args.seed,
            workers=args.workers,
        )
        print(
            f'{result.prepared} clips decoded, {result.resumed} done before, '
            f'{len(result.broken) - result.missing} broken, {result.missing} missing'
            + (f' (listed in {args.out}/{BROKEN_FILE}).' if result.broken else '.')
        )
        print(
            ', '.join(f'{part}: {count}' for part, count in result.samples.items())
            + f' samples of {result.classes} classes.'
        )

    try:
        exit_with_message(run, args.traceback)
    except KeyboardInterrupt:
        print('\nStopped. The same command continues from here.', file=sys.stderr)
        sys.exit(130)


if __name__ == '__main__':
    main()
