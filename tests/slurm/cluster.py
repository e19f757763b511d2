"""A Slurm cluster on this machine: a controller and two nodes, without munge, cgroups, accounting.

Everything of it lies in one folder; whoever starts it is the one user that it knows.
"""

import contextlib
import getpass
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.programs import free_port

PROGRAMS = ('slurmctld', 'slurmd', 'srun', 'sbatch', 'scontrol', 'squeue', 'scancel', 'sinfo')
SYSTEM = ('/usr/sbin', '/sbin', '/usr/local/sbin')  # not on everybody's PATH
NODES = ('n1', 'n2')
PATIENCE = 60.0  # seconds, on a machine that is busy with other things
# Slurm wants device files for GPUs, which nothing opens.
DEVICES = ('/dev/null', '/dev/zero')

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
ReturnToService=2
SlurmdTimeout=30
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 RealMemory=1000 Gres=gpu:2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[3]} CPUs=8 RealMemory=1000
PartitionName=cpu Nodes=n2 Default=NO MaxTime=60 DefaultTime=10
PartitionName=gpu Nodes=n1 Default=YES MaxTime=60 DefaultTime=10
PartitionName=both Nodes=n1,n2 Default=NO MaxTime=60 DefaultTime=10
PartitionName=urgent Nodes=n1,n2 PriorityTier=10 PreemptMode=OFF MaxTime=60 DefaultTime=10
"""


def missing() -> str:
    """The first program that is not installed, '' if all are."""
    return next((name for name in PROGRAMS if _find(name) is None), '')


def _find(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get('PATH', ''), *SYSTEM]))


@dataclass
class Cluster:
    """A cluster that runs; ``variables`` make Slurm's commands talk to it."""

    folder: Path
    daemons: list[subprocess.Popen] = field(default_factory=list)

    @property
    def variables(self) -> dict[str, str]:
        """This process's environment, less any job that it is in, and the cluster's file."""
        own = {k: v for k, v in os.environ.items() if not k.startswith(('SLURM', 'SBATCH'))}
        return own | {'SLURM_CONF': str(self.folder / 'slurm.conf')}

    def start(self) -> None:
        """Start the daemons and wait until both nodes are idle."""
        for name in ('state', *(f'spool.{node}' for node in NODES)):
            (self.folder / name).mkdir()
        host = socket.gethostname().partition('.')[0]
        with contextlib.ExitStack() as stack:
            ports = [stack.enter_context(free_port())[0] for _ in range(4)]
        text = CONFIG.format(folder=self.folder, host=host, user=getpass.getuser(), ports=ports)
        (self.folder / 'slurm.conf').write_text(text)
        # Earlier versions load a plugin in any case; this one lets the machine's groups alone.
        plugin = 'disabled' if self.version() >= (23, 2) else 'cgroup/v1\nCgroupAutomount=no'
        (self.folder / 'cgroup.conf').write_text(f'CgroupPlugin={plugin}\n')
        gpus = ''.join(f'NodeName=n1 Name=gpu File={device}\n' for device in DEVICES)
        (self.folder / 'gres.conf').write_text(gpus)
        self._daemon('slurmctld', '-D')
        for node in NODES:
            self._daemon('slurmd', '-D', '-N', node)
        states = ('sinfo', '-h', '-N', '-p', 'both', '-o', '%t')
        self.wait_for(lambda: self.say(*states).split() == ['idle'] * len(NODES))

    def version(self) -> tuple[int, ...]:
        """Year and month of the release."""
        said = subprocess.run([_find('slurmctld') or '', '-V'], capture_output=True, text=True)
        return tuple(int(part) for part in re.findall(r'\d+', said.stdout)[:2])

    def _daemon(self, name: str, *arguments: str) -> None:
        with open(self.folder / f'{name}.out', 'ab') as log:
            command = [_find(name) or name, *arguments]
            self.daemons.append(
                subprocess.Popen(command, env=self.variables, stdout=log, stderr=log)
            )

    def stop(self) -> None:
        """Cancel all jobs, then end the daemons."""
        self.say('scancel', '--user', getpass.getuser())
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def say(self, *command: str) -> str:
        """What a command prints, both its streams; '' while the controller is not there."""
        done = subprocess.run(
            command, env=self.variables, capture_output=True, text=True, timeout=PATIENCE
        )
        return (done.stdout + done.stderr).strip() if done.returncode == 0 else ''

    def job(self, number: str) -> dict[str, str]:
        """What ``scontrol show job`` says, by key."""
        words = self.say('scontrol', '-o', 'show', 'job', number).split()
        return dict(word.split('=', 1) for word in words if '=' in word)

    def wait_for(self, holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Wait until something holds; the cluster's logs are the message where it never does."""
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                raise TimeoutError(self.logs())
            time.sleep(0.1)

    def logs(self) -> str:
        """The ends of what the daemons have said."""
        paths = sorted(self.folder.glob('*.log')) + sorted(self.folder.glob('*.out'))
        return '\n'.join(f'== {path.name}\n{path.read_text()[-2000:]}' for path in paths)
