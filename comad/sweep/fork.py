"""Programs in processes of their own that spare themselves the seconds of their imports.

`Fork` does what ``python FILE ...`` or ``python -m MODULE ...`` does, in a fork of a process that
has imported torch, the mm* packages and the suite (server.py). That one has one thread, and each
fork a session of its own. Sweeps use it without a GPU only: the packages ask for CUDA when they are
imported, after which it may not work in a fork.
"""

import functools
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import backbones
import comad

# One process, one core: steps run side by side.
ONE_THREAD = dict.fromkeys(
    ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'NUMEXPR_NUM_THREADS'), '1'
)
# Whether there is CUDA, asked without its runtime.
ASKS_NVML = {'PYTORCH_NVML_BASED_CUDA_CHECK': '1'}
PACKAGES = tuple(Path(package.__file__).parent for package in (comad, backbones))
POLL_SECONDS = 0.05
LOST = 255  # exit code of a fork whose end nobody has seen


class ServerLost(RuntimeError):
    """The process to fork is gone."""


class Fork:
    """A started program; what it says goes to the end of a file.

    Args:
        words: The program, a file or a module, and its arguments.
        log: File of standard output and error.
        cwd: Where it runs.
        environment: All its variables.
        module: Whether the program is a module.

    Raises:
        ServerLost: The server has died; nothing was started.
    """

    def __init__(
        self,
        words: Sequence[str],
        log: Path,
        cwd: Path,
        environment: Mapping[str, str],
        module: bool = False,
    ) -> None:
        self._server = server()
        self.pid = self._server.start(
            words=list(words),
            log=os.fspath(log.absolute()),
            cwd=os.fspath(cwd.absolute()),
            environment=dict(environment),
            module=module,
        )
        self.returncode: int | None = None
        self.peak_mb = 0.0

    def poll(self) -> int | None:
        """Exit code, negative for a signal; None while it runs. At its end ``peak_mb`` is known."""
        if self.returncode is None and (ended := self._server.ended(self.pid)):
            self.returncode, self.peak_mb = ended
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        end = time.monotonic() + (float('inf') if timeout is None else timeout)
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(POLL_SECONDS)
        return code


class Server:
    """The process to fork; it ends with this one, and then ends what it has started."""

    def __init__(self) -> None:
        self.sources, self.is_lost = sources(), False
        self._given, self._ended = b'', {}
        asked, requests = os.pipe()
        self._replies, answers = os.pipe()
        self._requests = os.fdopen(requests, 'wb')
        paths = [os.fspath(PACKAGES[0].parent), os.environ.get('PYTHONPATH', '')]
        own = {**ONE_THREAD, **ASKS_NVML, 'PYTHONPATH': os.pathsep.join(filter(None, paths))}
        code = f'from comad.sweep.server import serve; serve({asked}, {answers})'
        self._process = subprocess.Popen(
            [sys.executable, '-c', code],
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            pass_fds=(asked, answers),
            start_new_session=True,
        )
        os.close(asked)
        os.close(answers)

    def start(self, **request: object) -> int:
        """Start a program; its process.

        Raises:
            ServerLost: The server has died.
        """
        try:
            self._requests.write(json.dumps(request).encode() + b'\n')
            self._requests.flush()
            while not self.is_lost:
                if started := self._listen(None):
                    return started[0]
        except OSError:
            self.is_lost = True
        except BaseException:  # Ctrl-C while it imports: nobody would know what it starts then
            self._process.kill()
            self.is_lost = True
            raise
        raise ServerLost('the process to fork has died')

    def ended(self, pid: int) -> tuple[int, float] | None:
        """Exit code and peak memory in MB of a program that has ended."""
        self._listen(0)
        if self.is_lost and pid not in self._ended and _is_gone(pid):
            return LOST, 0.0
        return self._ended.pop(pid, None)

    def _listen(self, timeout: float | None) -> list[int]:
        """Processes that the server says it has started."""
        started: list[int] = []
        if self.is_lost or not select.select([self._replies], [], [], timeout)[0]:
            return started
        read = os.read(self._replies, 1 << 16)
        self.is_lost = not read
        *lines, self._given = (self._given + read).split(b'\n')
        for pid, *end in map(json.loads, lines):
            if end:
                status, kilobytes = end
                self._ended[pid] = os.waitstatus_to_exitcode(status), kilobytes / 1024
            else:
                started.append(pid)
        return started


@functools.cache
def server() -> Server:
    """The one of this process, which begins to import."""
    return Server()


def is_current() -> bool:
    """Whether there is a server that has read the suite's code as it lies on the disk."""
    return not server().is_lost and server().sources == sources()


def sources() -> tuple[tuple[str, int, int], ...]:
    """Names, times and sizes of what the suite consists of."""
    found = []
    for package in PACKAGES:
        for path in sorted(package.rglob('[!.]*.py')):
            with suppress(FileNotFoundError):
                state = path.stat()
                found.append((os.fspath(path), state.st_mtime_ns, state.st_size))
    return tuple(found)


def _is_gone(pid: int) -> bool:
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in 'ZX'
