"""Make a small synthetic data set in the format of RAVDESS, MM-IMDB or VGG-Sound.

Examples:
    python tools/make_synthetic_data.py ravdess --out data/synthetic/ravdess_clips
    python tools/make_synthetic_data.py ravdess --out data/synthetic/ravdess_clips --shared 0.25
    python tools/make_synthetic_data.py ravdess --out data/synthetic/ravdess --prepared \
        --samples 2560 --independent
    python tools/make_synthetic_data.py mm_imdb --out data/synthetic/mm_imdb
    python tools/make_synthetic_data.py vgg_sound --out data/synthetic/vgg_sound_clips
"""

from __future__ import annotations

import argparse
import importlib

from ciba_bev.errors import exit_with_message

# Each has a module synthetic_data, whose functions take folder, seed and shared.
DATA_SETS = ('ravdess', 'mm_imdb', 'vgg_sound')


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('data_set', choices=DATA_SETS, help='data set whose format is written')
    parser.add_argument('--out', required=True, help='folder to write to')
    parser.add_argument(
        '--seed', type=int, default=0, help='the same seed writes the same files (%(default)s)'
    )
    parser.add_argument(
        '--shared',
        type=float,
        default=0.5,
        help='share of the information that both modalities have, 0 to 1 (%(default)s)',
    )
    parser.add_argument(
        '--prepared',
        action='store_true',
        help='write the prepared form instead of clips (ravdess, vgg_sound)',
    )
    parser.add_argument(
        '--samples',
        type=int,
        metavar='N',
        help='training samples, with N / 4 validation and N / 2 test samples; mm_imdb: in the '
        'proportions of the real file, which has 15552; the others only with --prepared '
        "(default: the data set's own)",
    )
    parser.add_argument(
        '--independent',
        action='store_true',
        help='with --prepared, ravdess: independent latents, so that one modality tells nothing of '
        "the other's own, not even by way of the emotion; takes thousands of samples to learn",
    )
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    args = parser.parse_args(arguments)
    trained_as_written = args.data_set == 'mm_imdb'
    if args.prepared and trained_as_written:
        parser.error('--prepared goes with ravdess and vgg_sound: mm_imdb needs no preparation')
    if args.independent and not (args.prepared and args.data_set == 'ravdess'):
        parser.error('--independent goes with ravdess and --prepared')
    if args.samples is not None and (args.samples < 4 or not (args.prepared or trained_as_written)):
        parser.error('--samples must be at least 4 and goes with --prepared or mm_imdb')
    return args


def main(arguments: list[str] | None = None) -> None:
    """Make the data set.

    Args:
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_args(arguments)

    def run() -> None:
        # Imported here because each needs other packages.
        module = importlib.import_module(f'ciba_bev.classification.{args.data_set}.synthetic_data')
        options = {}
        if args.samples is not None and args.data_set == 'mm_imdb':
            options['rows'] = module.count_rows(args.samples)
        elif args.samples is not None:
            count = args.samples
            options['samples'] = {'train': count, 'val': count // 4, 'test': count // 2}
        if args.independent:
            options['independent'] = True
        write = module.write_synthetic_data
        if args.data_set != 'mm_imdb' and not args.prepared:
            write = module.write_synthetic_clips
        write(args.out, seed=args.seed, shared=args.shared, **options)
        print(f'The synthetic {args.data_set} data are in {args.out}.')

    exit_with_message(run, args.traceback)


if __name__ == '__main__':
    main()
