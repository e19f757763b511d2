"""torchrun that leaves signals to the training, and whose last line says which process failed.

Takes torchrun's arguments. SIGTERM, SIGUSR1 and SIGINT go to every process, which saves and ends
by itself however long that takes; torchrun's own way is to kill 30 s after a SIGTERM and to know
nothing of SIGUSR1. A failed process has already printed what went wrong; its exit status becomes
the status of the whole, so a refused config is 2 here as with one process, a run that was asked to
stop 75.
"""

import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from torch.distributed.elastic.multiprocessing.api import PContext
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from comad.engine.preemption import INTERRUPTED, PREEMPTED, REFUSED, SIGNALS

# Tells of a failure and of every process stopped because of it, which `report` does in one line.
CHATTER = 'torch.distributed.elastic.multiprocessing.api'


def forward_signals() -> None:
    """Hand the signals on to the processes of this node, instead of torchrun's handling."""
    started: list[PContext] = []
    start = PContext.start

    def forward(number: int, frame: FrameType | None) -> None:
        if not started:
            os._exit(PREEMPTED)  # nothing has been started
        for child in started[-1].pids().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

    def start_and_listen(context: PContext) -> None:
        started.append(context)
        start(context)
        for number in SIGNALS:  # over those that torchrun has just installed
            signal.signal(number, forward)

    PContext.start = start_and_listen


def report(error: ChildFailedError) -> int:
    """Name the process that failed first, unless it said so itself, and return its status."""
    rank, failure = error.get_first_failure()
    code = failure.exitcode
    if code < 0:
        ended, code = f'was ended by {signal.Signals(-code).name}', 128 - code
    else:
        ended = f'failed with status {code}'
    if code not in (REFUSED, PREEMPTED, INTERRUPTED):
        print(f'error: process {rank} {ended}; the others were stopped', file=sys.stderr)
    return code


if __name__ == '__main__':
    logging.getLogger(CHATTER).setLevel(logging.CRITICAL)
    forward_signals()
    try:
        main()
    except ChildFailedError as failed:
        sys.exit(report(failed))
