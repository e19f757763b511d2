"""The process that `comad.sweep.fork` forks: imports the suite once, then starts what it is told.

    python -c 'from comad.sweep.server import serve; serve(REQUESTS, REPLIES)'

It reads a JSON line per program from one pipe and writes to another a line with the process it has
started, and one when that has ended. A fork leaves `serve` and runs as Python itself would run the
program, so exit codes, tracebacks and exit handlers are the usual ones. One that ends well is gone
then, without taking half a second to clear away what the server has imported. What a program leaves
in a file that it does not close may be lost. When its reader is gone, the server ends what still
runs, and itself.
"""

import atexit
import contextlib
import gc
import json
import os
import runpy
import select
import signal
import sys
from importlib import import_module

IMPORTED = (
    'torch.utils.tensorboard',
    'comad.engine.launch',
    'comad.engine.register',
    'mmseg.models',
    'mmseg.datasets',
    'mmdet.models',
    'mmdet.datasets',
    'mmdet.evaluation',
)
POLL_SECONDS = 0.02


def serve(requests: int, replies: int) -> None:
    """Start programs until the requests end.

    Args:
        requests: descriptor of JSON lines with ``words``, ``log``, ``cwd``, ``environment`` and
            ``module``, see `comad.sweep.fork.Fork`.
        replies: descriptor of JSON lines: ``[pid]`` at the start, ``[pid, status, kilobytes]`` at
            the end, as wait4 gives them.
    """
    atexit.register(_leave)  # the first of them is the last to be called
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever asks ends what was started
    for name in IMPORTED:
        with contextlib.suppress(ModuleNotFoundError):  # of the dense tasks' packages
            import_module(name)
    gc.freeze()  # a fork that collects, at the latest at its end, would copy all of it
    given, running = b'', set()
    while True:
        if select.select([requests], [], [], POLL_SECONDS if running else None)[0]:
            read = os.read(requests, 1 << 16)
            if not read:
                break
            *lines, given = (given + read).split(b'\n')
            for line in lines:
                waits, leads = os.pipe()
                if not (pid := os.fork()):
                    os.setsid()
                    for descriptor in (requests, replies, waits, leads):
                        os.close(descriptor)
                    return _run(**json.loads(line))
                os.close(leads)
                os.read(waits, 1)  # ends when the fork leads a group that can be ended
                os.close(waits)
                running.add(pid)
                _tell(replies, pid)
        while running and (ended := os.wait4(-1, os.WNOHANG))[0]:
            pid, status, usage = ended
            running.discard(pid)
            _tell(replies, pid, status, usage.ru_maxrss)
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGTERM)


def _tell(replies: int, *numbers: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # then the requests end too
        os.write(replies, json.dumps(numbers).encode() + b'\n')


def _run(words: list[str], log: str, cwd: str, environment: dict[str, str], module: bool) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout.reconfigure(line_buffering=True)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = words
    if 'numpy' in sys.modules:  # torch begins with one seed in every process, numpy does not
        sys.modules['numpy'].random.seed()
    sys.path[0] = os.getcwd() if module else os.path.dirname(os.path.abspath(words[0]))
    try:
        if module:
            runpy.run_module(words[0], run_name='__main__', alter_sys=True)
        else:
            runpy.run_path(words[0], run_name='__main__')
    except SystemExit as end:
        _ended_well.append(end.code is None or (isinstance(end.code, int) and end.code == 0))
        raise
    else:
        _ended_well.append(True)


_ended_well: list[bool] = []  # whether, of a fork whose program has ended by itself


def _leave() -> None:
    if any(_ended_well):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # the usual end tells them
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
