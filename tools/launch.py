"""Start the processes of dist_train.sh and dist_test.sh: torchrun, with our errors printed last.

The arguments are those of ``torchrun``. An error that the user can fix is printed once, as the last
line, in place of torchrun's report of failed processes.
"""

from __future__ import annotations

import os
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from ciba_bev.errors import LAUNCHER_VARIABLE, CibaError, SharedError, report


def recorded_errors(failed: ChildFailedError) -> list[tuple[int, CibaError]]:
    """Return the errors that processes stored for their launcher, sorted by time.

    Args:
        failed: The error of torchrun.

    Returns:
        Rank and error of each process that ended with an error of this project.
    """
    errors = []
    for rank, failure in sorted(failed.failures.items(), key=lambda item: item[1].timestamp):
        recorded = failure.error_file_data.get('message', '')
        if isinstance(recorded, dict):
            kind, _, message = recorded['message'].partition(': ')
            shared = kind == SharedError.__name__
            errors.append((rank, (SharedError if shared else CibaError)(message)))
    return errors


def main() -> None:
    """Run torchrun on this process's arguments."""
    os.environ[LAUNCHER_VARIABLE] = '1'
    try:
        run(parse_args(None))
    except ChildFailedError as failed:
        del os.environ[LAUNCHER_VARIABLE]
        errors = recorded_errors(failed)
        if not errors:
            raise
        for rank, error in errors:
            report(error, None if isinstance(error, SharedError) else rank)
        sys.exit(1)
    except SignalException as interrupted:
        # The first process has printed how to resume.
        sys.exit(128 + interrupted.sigval)


if __name__ == '__main__':
    main()
