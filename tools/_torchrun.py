"""torchrun whose last line says which process failed, instead of a traceback of its own.

Takes torchrun's arguments. A failed process has already printed what went wrong; its exit status
becomes the status of the whole, so a refused config is 2 here as with one process.
"""

import logging
import signal
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

REFUSED = 2
# Tells of a failure and of every process stopped because of it, which `report` does in one line.
CHATTER = 'torch.distributed.elastic.multiprocessing.api'


def report(error: ChildFailedError) -> int:
    """Name the process that failed first, unless it refused its config, and return its status."""
    rank, failure = error.get_first_failure()
    code = failure.exitcode
    if code < 0:
        ended, code = f'was ended by {signal.Signals(-code).name}', 128 - code
    else:
        ended = f'failed with status {code}'
    if code != REFUSED:
        print(f'error: process {rank} {ended}; the others were stopped', file=sys.stderr)
    return code


if __name__ == '__main__':
    logging.getLogger(CHATTER).setLevel(logging.CRITICAL)
    try:
        main()
    except ChildFailedError as failed:
        sys.exit(report(failed))
