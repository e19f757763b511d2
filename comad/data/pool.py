"""Tasks spread over processes, for tools that read whole data sets."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Task = TypeVar('Task')
Result = TypeVar('Result')


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def run_tasks(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int
) -> Iterator[Result]:
    """Results in the order in which they are done; in this process with one worker.

    When the caller stops (Ctrl-C, an error) no further task starts.

    Raises:
        ValueError: less than one worker.
        RuntimeError: a worker process was killed.
    """
    if workers < 1:
        raise ValueError(f'workers={workers}: expected 1 or more')
    if workers == 1 or len(tasks) < 2:
        yield from map(function, tasks)
        return
    pool = ProcessPoolExecutor(
        min(workers, len(tasks)), multiprocessing.get_context('fork'), initializer=_follow
    )
    try:
        remaining = iter(tasks)
        running = set()
        while True:
            # Few at a time: results of a million tasks should not pile up.
            for task in remaining:
                running.add(pool.submit(function, task))
                if len(running) >= 4 * workers:
                    break
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool:
        raise RuntimeError(
            'a worker process was killed, perhaps for want of memory: fewer workers need less'
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _follow() -> None:
    """Leave Ctrl-C to the parent, which stops its workers in order, and end when it has ended.

    Workers that outlived it would hold what they have inherited, such as locks on files.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
