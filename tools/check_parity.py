"""Compare the detection heads with recorded runs of their reference implementations."""

from __future__ import annotations

import argparse
import sys

from ciba_bev.detection.parity import RELATIVE_TOLERANCE, compare_with_recording
from ciba_bev.errors import CibaError


def main() -> int:
    """Print one line per output; return 0 only if all of them agree."""
    parser = argparse.ArgumentParser(
        description=f'{__doc__} Every value must lie within {RELATIVE_TOLERANCE:g} x max(1, '
        '|recorded value|).'
    )
    parser.add_argument('recordings', nargs='+', metavar='FILE', help='recorded run (.pt)')
    arguments = parser.parse_args()
    all_passed = True
    for path in arguments.recordings:
        try:
            comparisons = compare_with_recording(path)
        except CibaError as error:
            print(f'error: {error}', file=sys.stderr)
            all_passed = False
            continue
        for comparison in comparisons:
            verdict = '' if comparison.passed else '  DIFFERS'
            print(f'max_abs_err={comparison.max_abs_err:.3g} {path} {comparison.name}{verdict}')
            all_passed &= comparison.passed
    return 0 if all_passed else 1


if __name__ == '__main__':
    sys.exit(main())
