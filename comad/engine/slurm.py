"""What a task of Slurm is told of its place and time. Imports no torch."""

import os
import re
import socket
import subprocess
from collections.abc import Mapping

from comad.engine.options import ConfigError

PORTS = range(20000, 30000)


def place_of_task(task: Mapping[str, str], gpus: int) -> dict[str, str]:
    """Return what torchrun would have told a task of Slurm, as environment variables.

    MASTER_ADDR and MASTER_PORT stay where they are given.

    Args:
        task: Its environment.
        gpus: How many it sees; a site may let each task see its own one only.

    Raises:
        ConfigError: more processes on this machine than GPUs.
    """
    local = int(task['SLURM_LOCALID'])
    if 1 < gpus <= local:
        raise ConfigError(
            f'process {local + 1} of this machine, which sees {gpus} GPUs: start fewer per node '
            '(GPUS_PER_NODE)'
        )
    # One per step, and another one after a clash.
    number = int(task['SLURM_JOB_ID']) * 7 + int(task['SLURM_STEP_ID'])
    number += int(task.get('SLURM_RESTART_COUNT', 0)) * 1009
    return dict(
        RANK=task['SLURM_PROCID'],
        WORLD_SIZE=task['SLURM_STEP_NUM_TASKS'],
        LOCAL_RANK=str(local % gpus if gpus else local),
        MASTER_ADDR=task.get('MASTER_ADDR') or _first_machine(task),
        MASTER_PORT=task.get('MASTER_PORT') or str(PORTS[number % len(PORTS)]),
    )


def seconds_left() -> float | None:
    """Seconds until the end of the job that this process is in; None if that is not known."""
    if not (job := os.environ.get('SLURM_JOB_ID')):
        return None
    said = _ask('squeue', '-h', '-j', job, '-o', '%L')
    found = re.fullmatch(r'(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)', said)
    if found is None:  # UNLIMITED, or no Slurm that answers
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds


def is_known(name: str) -> bool:
    """Whether a name or address of a machine can be resolved here."""
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return False
    return True


def _first_machine(task: Mapping[str, str]) -> str:
    """Where the first task of a step runs."""
    if task['SLURM_STEP_NUM_NODES'] == '1':
        return '127.0.0.1'
    name = _ask('scontrol', 'show', 'hostnames', task['SLURM_STEP_NODELIST']).partition('\n')[0]
    if is_known(name):
        return name
    # Slurm may know machines by names that are none of the network's.
    own = re.search(r'NodeAddr=(\S+)', _ask('scontrol', '-o', 'show', 'node', name))
    return own[1] if own else name


def _ask(*command: str) -> str:
    """What a command of Slurm prints; '' where there is none, or it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ''
    return done.stdout.strip() if done.returncode == 0 else ''
