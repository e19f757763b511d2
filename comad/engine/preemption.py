"""Stopping a training on request: signals, exit codes and the files that tell what became of it.

SIGTERM, SIGUSR1 or Ctrl-C asks; `PreemptionHook` answers at the next step. Importing this does
not import torch.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from backbones.files import read_json, write_json
from comad.engine.options import ConfigError

# Exit codes of train.py; slurm_train.sh reads the lines of LOST and PREEMPTED.
REFUSED = 2
FAILED = 3  # for a reason told in one line
LOST = 4  # likewise, and by the machine: another start with --resume may go well
PREEMPTED = 75  # EX_TEMPFAIL: the same command with --resume goes on
INTERRUPTED = 130  # what shells report of a process ended by Ctrl-C
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
REQUEUE = 'requeue'
FINISHED = 'finished'
CRASHES = 'crashes'  # of slurm_train.sh: how many there were without a new checkpoint, and which
# Names a file for the first process's exit code: srun reports that of a process which it killed
# because another had ended.
OUTCOME = 'COMAD_OUTCOME'
GRACE = 120.0  # seconds that a step and a save take at most, see `StopRequest.listen`


# What launchers say to each process: how many there are, and which one it is.
LAUNCHERS = {
    'pytorch': ('WORLD_SIZE', 'RANK'),
    'slurm': ('SLURM_STEP_NUM_TASKS', 'SLURM_PROCID'),
    'mpi': ('OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_RANK'),
}
_alone = False


class Preempted(Exception):  # noqa: N818 (nothing went wrong)
    """The training was asked to stop and has saved all it needs to go on."""


class StopRequest:
    """Remembers that a signal asked for a stop; a second Ctrl-C does not wait.

    Attributes:
        signal: Name of the first signal, None before.
    """

    def __init__(self) -> None:
        self.signal: str | None = None

    def end_at_once(self) -> None:
        """Until `listen`, let a signal end the process: there is nothing to save yet.

        A thread does it, also within calls that let no handler run, such as waiting for the other
        processes.
        """
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, _only_wake)
        threading.Thread(target=_end, args=(woken,), daemon=True).start()

    @contextlib.contextmanager
    def listen(self, seconds_left: float | None = None) -> Iterator[None]:
        """Catch the signals for the time of a training, in the main thread only.

        Args:
            seconds_left: After which the machine will be taken away, if that is known: `GRACE`
                before, the training is asked to stop.
        """
        self.signal = None
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.owner = os.getpid()
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        if _only_wake in before.values():
            signal.set_wakeup_fd(-1)
        alarm = None
        if seconds_left is not None:
            wait = max(0.0, seconds_left - GRACE)
            alarm = threading.Timer(wait, os.kill, (self.owner, signal.SIGUSR1))
            alarm.daemon = True
            alarm.start()
        try:
            yield
        finally:
            if alarm is not None:
                alarm.cancel()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.owner:  # a forked process inherits the handler, not the request
            return
        if self.signal == 'SIGINT' and number == signal.SIGINT:
            os.write(2, b'\nstopped without saving\n')
            os._exit(INTERRUPTED)
        if self.signal is None:
            self.signal = signal.Signals(number).name
            if self.signal == 'SIGINT':
                os.write(2, b'\nsaving after this step; Ctrl-C again stops at once\n')


stop_request = StopRequest()


def _only_wake(number: int, frame: FrameType | None) -> None:
    """A handler of Python, so that the signal's number is written to the pipe."""


def _end(woken: int) -> None:
    name = signal.Signals(os.read(woken, 1)[0]).name
    say(f'{name}: stopped before the first step; --resume begins again')
    tell_outcome(PREEMPTED)
    os._exit(PREEMPTED)


def tell_outcome(status: int) -> None:
    """Leave the exit code where `OUTCOME` says, if this is the first process."""
    if (path := os.environ.get(OUTCOME)) and is_first_process():
        with contextlib.suppress(OSError):
            Path(path).write_text(f'{status}\n')


def protect_worker(inner: Callable[[int], None] | None, worker_id: int) -> None:
    """Start a data worker that outlives signals to its whole process group.

    Ctrl-C, and what Slurm sends, reaches the workers too; without them the step at which the
    trainer saves could not be finished. SIGTERM from the trainer itself still ends a worker.

    Args:
        inner: The loader's own ``worker_init_fn``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if hasattr(signal, 'sigwaitinfo'):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey_parent, args=(os.getppid(),), daemon=True).start()
    if inner is not None:
        inner(worker_id)


def _obey_parent(parent: int) -> None:
    while True:
        # A sender of 0 is one that the kernel cannot name, as from another container.
        if signal.sigwaitinfo({signal.SIGTERM}).si_pid == parent:
            os._exit(0)


def write_requeue(work_dir: str | Path, signal_name: str, step: int, checkpoint: str) -> None:
    """Leave word that the run wants to go on; read by ``tools/slurm_train.sh``."""
    write_json(
        Path(work_dir) / REQUEUE,
        dict(
            signal=signal_name,
            step=step,
            checkpoint=checkpoint,
            time=time.strftime('%Y-%m-%dT%H:%M:%S%z'),
        ),
    )


def write_finished(work_dir: str | Path, digest: str) -> None:
    """Leave word that nothing is left to do under the config of this digest."""
    (Path(work_dir) / CRASHES).unlink(missing_ok=True)
    write_json(
        Path(work_dir) / FINISHED,
        dict(config_digest=digest, time=time.strftime('%Y-%m-%dT%H:%M:%S%z')),
    )


def is_finished(work_dir: str | Path, digest: str) -> bool:
    """Whether a training of this config has ended in the folder."""
    try:
        return read_json(Path(work_dir) / FINISHED)['config_digest'] == digest
    except (OSError, ValueError, KeyError):
        return False


def begin(work_dir: str | Path) -> None:
    """Remove what the last run in the folder said of itself."""
    for name in (REQUEUE, FINISHED):
        (Path(work_dir) / name).unlink(missing_ok=True)


def check_launcher(launcher: str | None) -> None:
    """Refuse one of several processes that nobody has told to work together.

    Each would train for itself, in the same folder.

    Args:
        launcher: As of the command line; ``none`` says that each is a run of its own.

    Raises:
        ConfigError: several processes and no launcher.
    """
    global _alone
    _alone = launcher == 'none'
    if launcher is not None:
        return
    for name, (processes, _) in LAUNCHERS.items():
        count = os.environ.get(processes, '')
        if count.isdigit() and int(count) > 1:
            raise ConfigError(
                f'{count} processes were started ({processes}={count}) without --launcher: add '
                f'--launcher {name}, or --launcher none if each is a run of its own'
            )


def in_several_processes() -> bool:
    """Whether a launcher has started more than this one."""
    counts = (os.environ.get(processes, '') for processes, _ in LAUNCHERS.values())
    return any(count.isdigit() and int(count) > 1 for count in counts)


def is_first_process() -> bool:
    """Whether this is the process that speaks for all, known before they have met."""
    return _alone or all(os.environ.get(rank, '0') == '0' for _, rank in LAUNCHERS.values())


def say(text: str) -> None:
    if is_first_process():
        sys.stderr.write(text + '\n')
