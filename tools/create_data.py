"""Make the info files that the nuScenes datasets read (see docs/data.md).

Examples:
    python tools/create_data.py --root-path data/nuscenes --version v1.0-trainval
    python tools/create_data.py --root-path data/nuscenes --version v1.0-mini --annotate-only
"""

from __future__ import annotations

import argparse

from ciba_bev.detection.nuscenes.info_creation import (
    SPLITS,
    annotate_info_files,
    create_info_files,
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
        '--root-path', required=True, help='nuScenes root: samples, sweeps and the tables'
    )
    parser.add_argument('--version', required=True, choices=list(SPLITS), help='nuScenes version')
    parser.add_argument(
        '--extra-tag', default='nuscenes', help="prefix of the info files' names (%(default)s)"
    )
    parser.add_argument('--out-dir', help='folder of the info files (default: the root)')
    parser.add_argument(
        '--max-sweeps',
        type=int,
        default=10,
        help='maximum number of past LiDAR sweeps of a sample (%(default)s)',
    )
    parser.add_argument(
        '--can-bus',
        help='folder can_bus of the CAN bus expansion (optional; default: the one in the root or '
        'beside it)',
    )
    parser.add_argument(
        '--replace',
        action='store_true',
        help='also replace info files of another version or format',
    )
    parser.add_argument(
        '--annotate-only',
        action='store_true',
        help="complete the info files that mmdet3d's own create_data.py has written",
    )
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Make or complete the info files.

    Args:
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_args(arguments)
    shared = {
        'root_path': args.root_path,
        'version': args.version,
        'out_dir': args.out_dir,
        'tag': args.extra_tag,
        'can_bus': args.can_bus,
    }

    def run() -> None:
        if args.annotate_only:
            annotate_info_files(**shared)
        else:
            create_info_files(max_sweeps=args.max_sweeps, replace=args.replace, **shared)

    exit_with_message(run, args.traceback)


if __name__ == '__main__':
    main()
