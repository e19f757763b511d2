"""One run per work dir: a lease that ends with its process, also on file systems of a cluster.

The file ``lease`` in the folder names its owner. It is locked for as long as that process lives,
so that the kernel ends it, and its owner touches it every half minute, for file systems whose
locks do not reach other machines. Importing this imports neither torch nor MMEngine.
"""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backbones.files import write_json
from comad.engine.options import ConfigError

LEASE = 'lease'
BEAT = 30.0  # seconds
# A machine that has not been heard of for so long has lost its run.
SILENCE = 10 * BEAT
_open: set[int] = set()


def _leave_to_parent() -> None:
    """A forked data worker that outlives its trainer must not keep the lock."""
    for handle in _open:
        os.close(handle)
    _open.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


@contextlib.contextmanager
def leased(work_dir: str | os.PathLike[str]) -> Iterator[None]:
    """Own a folder, made if it is not there, as long as the context lasts.

    A Slurm job that has been queued again, and runs on another machine than before, waits until
    nothing more is heard from there.

    Raises:
        ConfigError: It cannot be made or written to, or another run owns it.
    """
    folder = Path(work_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + 2 * SILENCE
        while (handle := _take(folder, patient=time.monotonic() < until)) is None:
            time.sleep(BEAT / 6)
    except OSError as error:
        raise ConfigError(
            f'work dir {folder}: {error.strerror or error}; choose another one with --work-dir'
        ) from None
    _open.add(handle)
    ended = threading.Event()
    threading.Thread(target=_beat, args=(folder / LEASE, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        if handle in _open:  # not in a process that was forked meanwhile
            _open.discard(handle)
            # Closing ends the lock: nobody finds an old lease that is not locked.
            with contextlib.suppress(OSError):
                (folder / LEASE).unlink()
            os.close(handle)


def _take(folder: Path, patient: bool) -> int | None:
    """Lock the lease and write this process into it; returns the open file.

    Args:
        patient: Whether None is the answer, not a refusal, where this very job owns it.
    """
    path = folder / LEASE
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locks = True
        except BlockingIOError:
            owner = _owner(handle)
            os.close(handle)
            if patient and _is_ours(owner):
                return None
            raise _held(folder, owner) from None
        except OSError:  # the file system has none
            locks = False
        # Its last owner may have removed it between the two calls.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                break
        os.close(handle)
    owner = _owner(handle)
    if owner and _lives(folder, owner, locks):
        os.close(handle)
        if patient and _is_ours(owner):
            return None
        raise _held(folder, owner)
    os.ftruncate(handle, 0)
    os.pwrite(handle, _encoded(_me()), 0)
    return handle


def _lives(folder: Path, owner: dict[str, Any], locks: bool) -> bool:
    """Whether the owner of a lease that is not locked here is at work all the same."""
    me = _me()
    if owner.get('machine') == me['machine']:
        return not locks and _started(owner.get('pid')) == owner.get('started')
    return _now(folder) - (folder / LEASE).stat().st_mtime < SILENCE


def _is_ours(owner: dict[str, Any]) -> bool:
    """Whether a lease is of an earlier start of the Slurm job that this process is in."""
    job = os.environ.get('SLURM_JOB_ID')
    return job is not None and owner.get('job') == job


def _held(folder: Path, owner: dict[str, Any]) -> ConfigError:
    who = f'process {owner.get("pid")} on {owner.get("host")}' if owner else 'another process'
    who += f' (Slurm job {owner["job"]})' if owner.get('job') else ''
    since = f' since {owner["since"]}' if 'since' in owner else ''
    away = ''
    if owner.get('machine') not in (None, _me()['machine']):
        away = f'; if that machine is gone, wait {SILENCE / 60:.0f} minutes'
    return ConfigError(
        f'{folder} belongs to a run of {who}{since}: wait for it, or choose another '
        f'--work-dir{away}'
    )


def _me() -> dict[str, Any]:
    """Who owns a lease of this process; a machine that was started again is another one."""
    try:
        boot = Path('/proc/sys/kernel/random/boot_id').read_text().strip()
        space = os.stat('/proc/self/ns/pid').st_ino  # process numbers of a container are its own
    except OSError:
        boot, space = '', 0
    host, pid = socket.gethostname(), os.getpid()
    job = os.environ.get('SLURM_JOB_ID')
    machine = f'{host} {boot} {space}'
    return dict(host=host, machine=machine, pid=pid, started=_started(pid), job=job)


def _started(pid: Any) -> str | None:
    """When a process of this machine began, in the kernel's count; None if there is none."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]
    except (OSError, IndexError):
        return None


def _encoded(owner: dict[str, Any]) -> bytes:
    since = time.strftime('%Y-%m-%d %H:%M:%S')
    return json.dumps({**owner, 'since': since}).encode()


def _owner(handle: int) -> dict[str, Any]:
    """What a lease says; nothing where its owner is just writing it."""
    try:
        content = json.loads(os.pread(handle, 4096, 0))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _now(folder: Path) -> float:
    """The time by the clock that dates the folder's files, which may be another machine's."""
    probe = folder / f'.{LEASE}.{socket.gethostname()}.{os.getpid()}.tmp'
    write_json(probe, {})
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        with contextlib.suppress(OSError):
            os.utime(path)
