"""Programs in processes of their own that spare themselves the seconds of their imports.

`Fork` does what ``python FILE ...`` or ``python -m MODULE ...`` does, in a fork of a server that
has imported torch, the mm* packages and the suite: standard library's forkserver. The server has
one thread, and each fork a process group of its own. Sweeps use it without a GPU only: the packages
ask for CUDA when they are imported, after which it may not work in a fork.
"""

import atexit
import functools
import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from comad.runs.place import FILES

SERVER = 'comad.sweep.preloaded'
# One process, one core: steps run side by side.
ONE_THREAD = dict.fromkeys(
    ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'NUMEXPR_NUM_THREADS'), '1'
)

# Whether there is CUDA, asked without its runtime.
ASKS_NVML = {'PYTORCH_NVML_BASED_CUDA_CHECK': '1'}


class Fork:
    """A started program; what it says goes to the end of a file.

    Args:
        words: The program, a file or a module, and its arguments.
        log: File of standard output and error.
        cwd: Where it runs.
        environment: All its variables.
        module: Whether the program is a module.
    """

    def __init__(
        self,
        words: Sequence[str],
        log: Path,
        cwd: Path,
        environment: Mapping[str, str],
        module: bool = False,
    ) -> None:
        self._told, tells = multiprocessing.Pipe(duplex=False)
        given = list(words), os.fspath(log), os.fspath(cwd), dict(environment), module, tells
        self._process = _server().Process(target=_run, args=given)
        self._process.start()
        tells.close()
        try:
            self._told.recv()  # from now on it has a group that can be ended
        except EOFError:
            pass
        except BaseException:  # Ctrl-C while the server imports: nobody else knows of it
            self._process.kill()
            raise
        self.pid: int = self._process.pid
        self.peak_mb = 0.0

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code, if it has ended; then ``peak_mb`` is known, but after a signal."""
        code = self._process.exitcode
        if code is not None and not self.peak_mb:
            with suppress(EOFError):
                self.peak_mb = self._told.recv()
        return code

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code


def is_current() -> bool:
    """Whether the server has, or would now get, the suite's code as it lies on the disk."""
    return _read_by_server() == _sources()


def _sources() -> tuple[tuple[str, int, int], ...]:
    """Names, times and sizes of what the suite would import."""
    found = []
    for package in ('comad', 'backbones'):
        for path in sorted((FILES / package).rglob('*.py')):
            state = path.stat()
            found.append((os.fspath(path), state.st_mtime_ns, state.st_size))
    return tuple(found)


@functools.cache
def _read_by_server() -> tuple[tuple[str, int, int], ...]:
    return _sources()


@functools.cache
def _server() -> Any:
    """Start the server; only its environment tells it where the suite is."""
    _read_by_server()
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([SERVER])
    paths = [os.fspath(FILES), os.environ.get('PYTHONPATH', '')]
    changed = dict(ONE_THREAD, PYTHONPATH=os.pathsep.join(filter(None, paths)), **ASKS_NVML)
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return context


def _run(
    words: list[str],
    log: str,
    cwd: str,
    environment: dict[str, str],
    module: bool,
    tells: Connection,
) -> None:
    os.setsid()
    tells.send(None)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    multiprocessing.current_process().name = 'MainProcess'
    os.chdir(cwd)
    sys.argv = words
    try:
        if module:
            runpy.run_module(words[0], run_name='__main__', alter_sys=True)
        else:
            runpy.run_path(words[0], run_name='__main__')
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends a process without them
        used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        with suppress(OSError):  # nobody waits any more
            tells.send(max(usage.ru_maxrss for usage in used) / 1024)
