"""A grid on a cluster: one batch job per cell, in the order that Slurm itself keeps.

Slurm holds the graph: a job starts after those that it needs (``afterok``) and is cancelled if one
of them fails. Nothing has to stay up: job numbers lie beside the stamps, so that the same command
submits what is neither done nor in the queue. Each job is one of ``tools/slurm_train.sh --batch``,
which saves before its time is over and goes on.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from backbones.files import write_json
from comad.runs.place import FILES
from comad.sweep.runner import Sweep
from comad.sweep.step import Step, SweepError, read_stamp

SCRIPT, JOBS = 'tools/slurm_train.sh', 'jobs.json'
DONE, FAILED, WAITING, RUNNING = 'done', 'failed', 'waiting', 'running'


def jobs_file(sweep: Sweep) -> Path:
    """Where the numbers of the jobs of a sweep's steps are kept."""
    return sweep.root / sweep.state / JOBS


def job_command(sweep: Sweep, step: Step, partition: str) -> list[str]:
    """Return what submits one step; a job always resumes."""
    if not is_training(step):
        return sweep.typed(step)
    typed = [word for word in sweep.typed(step) if word != '--resume']
    options = typed[3:]  # behind the tool, the leaf and, on several GPUs, their number
    return [SCRIPT, '--batch', partition, step.name, step.command[2], *options]


def is_training(step: Step) -> bool:
    """Whether a step is a job of its own; the others, which write the sample, run here first."""
    return step.command[1] == 'tools/train.py'


def submit(sweep: Sweep, partition: str, redo: Sequence[str] = ()) -> dict[str, str]:
    """Submit every step that is neither done nor in the queue; return name -> job of these.

    Raises:
        SweepError: Slurm refuses a job, what was submitted before is kept; ``redo``, since a job
            that is queued again would begin anew each time.
    """
    if redo:
        raise SweepError('--redo is for runs here; on a cluster remove the run that is to go')
    jobs, alive = read_stamp(jobs_file(sweep)), set(_queue())
    submitted: dict[str, str] = {}
    here = [step for step in sweep.pending() if not is_training(step)]
    if here and not sweep.part(here).run().complete:
        raise SweepError(f'{here[0].name} failed, see {sweep.log(here[0])}')
    for step in sweep.pending():
        if jobs.get(step.name) in alive:
            sweep.report(f'{step.name}: in the queue as job {jobs[step.name]}')
            continue
        needs = [jobs[need] for need in step.needs if not sweep.is_done(sweep.by_name[need])]
        jobs[step.name] = submitted[step.name] = job = _submit(sweep, step, partition, needs)
        alive.add(job)
        jobs_file(sweep).parent.mkdir(parents=True, exist_ok=True)
        write_json(jobs_file(sweep), jobs)
        after = f', after {", ".join(needs)}' if needs else ''
        sweep.report(f'{step.name}: submitted as job {job}{after}')
    return submitted


def states_of_jobs(sweep: Sweep) -> dict[str, str]:
    """Return name -> ``done``, ``running``, ``waiting`` or ``failed`` of every step.

    A step has failed whose job has left the queue without its outputs, unless that was because a
    step that it needs is not done.
    """
    jobs, queue = read_stamp(jobs_file(sweep)), _queue()
    found: dict[str, str] = {}
    for step in sweep.steps:
        job = jobs.get(step.name)
        ready = all(found[need] == DONE for need in step.needs)
        if sweep.is_done(step):
            found[step.name] = DONE
        elif job in queue:
            found[step.name] = RUNNING if queue[job] == 'RUNNING' else WAITING
        else:
            found[step.name] = FAILED if job and ready else WAITING
    return found


def _queue() -> Mapping[str, str]:
    """Number -> state of this user's jobs."""
    command = ['squeue', '-h', '--me', '-o', '%i %T']
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise SweepError('squeue not found: this is no machine of a Slurm cluster') from None
    except subprocess.CalledProcessError as error:
        raise SweepError(f'squeue: {" ".join(error.stderr.split())}') from None
    return dict(line.split() for line in done.stdout.splitlines() if line)


def _submit(sweep: Sweep, step: Step, partition: str, needs: list[str]) -> str:
    own = '--parsable --kill-on-invalid-dep=yes'
    log = sweep.root / sweep.log(step)
    log.parent.mkdir(parents=True, exist_ok=True)
    own += f' --output={log}'
    own += f' --dependency=afterok:{":".join(needs)}' if needs else ''
    environment = {
        **os.environ,
        'GPUS': str(min(sweep.gpus, step.processes)),
        'SBATCH_ARGS': f'{os.environ.get("SBATCH_ARGS", "")} {own}'.strip(),
    }
    done = subprocess.run(
        ['bash', str(FILES / SCRIPT), *job_command(sweep, step, partition)[1:]],
        cwd=sweep.root,
        env=environment,
        capture_output=True,
        text=True,
    )
    job = done.stdout.strip().splitlines()[-1:] or ['']
    number = job[0].partition(';')[0]
    if done.returncode or not number.isdigit():
        reason = ' '.join((done.stderr or done.stdout).split())
        raise SweepError(f'{step.name} could not be submitted: {reason}')
    return number
