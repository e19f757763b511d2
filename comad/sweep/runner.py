"""Runs a grid of steps: resumes, skips what is done, and says what failed and where to look."""

import fcntl
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backbones.files import write_json
from backbones.names import meant
from comad.engine.preemption import GRACE, LOST, PREEMPTED
from comad.sweep.estimate import chain_seconds, expected_durations, seconds_left, show_seconds
from comad.sweep.process import GRACE_SECONDS, Job, terminate, wait_any
from comad.sweep.step import (
    Step,
    SweepError,
    missing_outputs,
    outputs_digest,
    read_stamp,
    step_digest,
)

TAIL_LINES = 15
# How often a training is started again that has saved and stopped, or that the machine broke.
STARTS = {PREEMPTED: 20, LOST: 3}


@dataclass
class Outcome:
    """What became of the steps of a grid, by name, with its wall time and peak memory."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_mb: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether every step is done."""
        return not self.failed and not self.not_run


class Sweep:
    """One grid of steps, with stamps, logs and timings below ``state``.

    A step is done when its outputs exist and its stamp carries the digest of its command and
    config sources and those of the outputs it was made from. A stamp is written after the step
    has succeeded and removed before it is run again, so an interrupted sweep resumes where it
    stopped. Stamps are shared by all grids of one ``state`` folder.

    Args:
        grid: Name of the grid, also of its log folder.
        steps: The steps, needs before the steps that need them.
        root: Folder the commands run in; outputs are relative to it.
        state: Folder for stamps, logs and timings, relative to ``root``.
        files: Folder that sources are relative to; ``root`` by default.
        slots: Steps that may run side by side.
        keep_going: Whether steps that do not need a failed one are still run.
        resume: Whether a training goes on where an earlier attempt stopped, instead of beginning
            anew; at full scale nothing that is there is written over unless `forget` was told so.
        gpus: Processes that a training may have.
        forks: Whether steps may be forks of one process that has imported the suite; worth it where
            they take seconds.
        adopts: Tells of a step whose outputs are there, but no stamp, whether they are what it
            would make now; by default none is taken over.
        tells: What a step that was run has found, for its line; by default nothing.
        report: Receives every line meant for the user.

    Raises:
        SweepError: If names are not unique or a step needs one that does not precede it.
    """

    def __init__(
        self,
        grid: str,
        steps: Sequence[Step],
        root: Path,
        state: str | Path = 'work_dirs/sample/sweep',
        files: Path | None = None,
        slots: int = 2,
        keep_going: bool = False,
        resume: bool = False,
        gpus: int = 1,
        forks: bool = False,
        adopts: Callable[[Step], bool] = lambda step: False,
        tells: Callable[[Step], str] = lambda step: '',
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        known: set[str] = set()
        for step in steps:
            if step.name in known:
                raise SweepError(f'two steps of {grid} are called {step.name}')
            if unknown := sorted(set(step.needs) - known):
                raise SweepError(f'{step.name} needs {unknown[0]}, which is not before it')
            known.add(step.name)
        self.grid, self.steps, self.root, self.files = grid, list(steps), root, files or root
        self.state, self.slots, self.keep_going = Path(state), max(slots, 1), keep_going
        self.report, self.resume, self.gpus, self.forks = report, resume, gpus, forks
        self.adopts, self.tells = adopts, tells
        self._anew: set[str] = set()
        self._tries: Counter[str] = Counter()
        self.by_name = {step.name: step for step in self.steps}
        self._numbers: dict[str, int] = {}

    def is_done(self, step: Step) -> bool:
        """Return whether the outputs exist and were made from the present command and inputs."""
        stamp = read_stamp(self._stamp(step))
        if missing_outputs(self.root, step) or step.name in self._anew:
            return False
        if not stamp and self.adopts(step):
            write_json(self._stamp(step), self._inputs(step))
            return True
        return bool(stamp) and all(
            stamp.get(key) == value for key, value in self._inputs(step).items()
        )

    def pending(self) -> list[Step]:
        """Return the steps that have to be run, in order: not done, or behind one that is not."""
        found: dict[str, Step] = {}
        for step in self.steps:
            if any(need in found for need in step.needs) or not self.is_done(step):
                found[step.name] = step
        return list(found.values())

    def time_left(self, slots: int | None = None) -> float:
        """Return the estimated seconds that the pending steps take, so many side by side."""
        return self._left(self.by_name, {}, slots)

    def forget(self, names: Iterable[str], stamps: bool = True) -> None:
        """Count these steps as not done until they are run again.

        Args:
            names: Of the steps.
            stamps: Whether other sweeps forget them too; otherwise this one alone.

        Raises:
            SweepError: If the grid has no step of that name.
        """
        names = list(names)
        if unknown := [name for name in names if name not in self.by_name]:
            near = meant(unknown[0], self.by_name)
            raise SweepError(f'{self.grid} has no step {unknown[0]}{near}; --dry-run lists all')
        for name in names:
            if stamps:
                self._stamp(self.by_name[name]).unlink(missing_ok=True)
            self._anew.add(name)

    def missing(self) -> dict[str, list[str]]:
        """Return line -> steps to do, of everything that is missing and that no step makes."""
        found: dict[str, list[str]] = {}
        lines: dict[str, str] = {}
        for step in self.pending():
            for path, line in step.files:
                if not (self.root / path).exists():
                    found.setdefault(lines.setdefault(path, line), []).append(step.name)
        return found

    def typed(self, step: Step) -> list[str]:
        """Return the command that a step runs, on so many GPUs and with what follows from that."""
        words = list(step.command)
        if words[:2] != ['python', 'tools/train.py'] or not self.resume:
            return words
        share = step.processes // self.gpus
        if share > 1 and share * self.gpus == step.processes:
            words += ['--accumulate', str(share)]
        words.append('--overwrite' if step.name in self._anew else '--resume')
        if self.gpus > 1:
            words[:3] = ['tools/dist_train.sh', words[2], str(self.gpus)]
        return words

    def state_of(self, step: Step) -> str:
        """Return ``done``, ``running``, ``failed`` or ``waiting``."""
        if self.is_done(step):
            return 'done'
        mark = read_stamp(self._mark(step)).get('state', 'waiting')
        return 'waiting' if mark == 'running' and not self._is_locked() else mark

    def part(self, steps: Sequence[Step]) -> 'Sweep':
        """Return the sweep of some of the steps alone, whose needs are among them."""
        own = dict(state=self.state, files=self.files, slots=self.slots, report=self.report)
        return Sweep(self.grid, steps, self.root, **own)

    def log(self, step: Step) -> Path:
        """Return the path, relative to the root, of the step's log."""
        return self.state / self.grid / f'{step.name}.log'

    def run(self) -> Outcome:
        """Run what is not done; a KeyboardInterrupt ends the running steps and passes on.

        Raises:
            SweepError: If another sweep works on the same state folder.
        """
        with self._lock():
            started = time.monotonic()
            outcome, running = Outcome(), {}
            try:
                self._loop(outcome, running)
            finally:
                # A training that goes on has a step to end and a checkpoint to write.
                terminate(running.values(), GRACE if self.resume else GRACE_SECONDS)
                outcome.seconds = time.monotonic() - started
            return outcome

    def _loop(self, outcome: Outcome, running: dict[str, Job]) -> None:
        waiting = [step.name for step in self.steps]
        chains = chain_seconds(self.steps, expected_durations(self.steps, self._timings()))
        while True:
            self._skip_done(waiting, outcome)
            ready = [name for name in waiting if self._is_ready(name, outcome)]
            if ready and len(running) < self.slots:
                # An early step, or the one with the longest chain behind it.
                name = max(ready, key=lambda name: (self.by_name[name].early, chains[name]))
                waiting.remove(name)
                running[name] = self._start(self.by_name[name])
                self._say(name, f'started, about {show_seconds(self._left(waiting, running))} left')
            elif running:
                job = wait_any(running)
                outcome.peak_mb = max(outcome.peak_mb, job.peak_mb)
                if self._goes_on(job):
                    waiting.append(job.step.name)
                elif self._succeeded(job):
                    outcome.done.append(job.step.name)
                else:
                    outcome.failed.append(job.step.name)
                    if not self.keep_going:
                        break
            else:
                break
        outcome.not_run = [*running, *waiting]

    def _skip_done(self, waiting: list[str], outcome: Outcome) -> None:
        for name in list(waiting):
            if self._is_ready(name, outcome) and self.is_done(self.by_name[name]):
                waiting.remove(name)
                outcome.skipped.append(name)
                self._say(name, 'up to date')

    def _is_ready(self, name: str, outcome: Outcome) -> bool:
        return {*outcome.done, *outcome.skipped}.issuperset(self.by_name[name].needs)

    def _start(self, step: Step) -> Job:
        self._stamp(step).unlink(missing_ok=True)
        write_json(self._mark(step), {'state': 'running'})
        log = self.root / self.log(step)
        return Job(step, self.typed(step), self.root, log, self._inputs(step), self.forks)

    def _goes_on(self, job: Job) -> bool:
        """Whether a training has stopped so that another start goes on, and has starts left."""
        name = job.step.name
        self._anew.discard(name)
        self._tries[name] += 1
        if not self.resume or self._tries[name] > STARTS.get(job.process.returncode, 0):
            return False
        self._say(name, f'stopped (exit {job.process.returncode}); goes on')
        return True

    def _succeeded(self, job: Job) -> bool:
        step, code = job.step, job.process.returncode
        absent = missing_outputs(self.root, step)
        if code or absent:
            problem = f'exit {code}' if code else f'did not write {absent[0]}'
            write_json(self._mark(step), {'state': 'failed', 'problem': problem})
            self._say(step.name, f'FAILED ({problem}) after {show_seconds(job.seconds)}')
            for line in job.tail(TAIL_LINES):
                self.report(f'    {line}')
            self.report(f'    the whole log: {self.log(step)}')
            return False
        seconds = round(job.seconds, 1)
        stamp = {**job.inputs, 'seconds': seconds, 'peak_mb': round(job.peak_mb)}
        write_json(self._timings_file, {**self._timings(), step.name: seconds})
        write_json(self._stamp(step), stamp)
        self._mark(step).unlink(missing_ok=True)
        found = self.tells(step)
        self._say(step.name, f'done in {show_seconds(job.seconds)}' + (found and f': {found}'))
        return True

    def _say(self, name: str, what: str) -> None:
        number = self._numbers.setdefault(name, len(self._numbers) + 1)
        self.report(f'[{number}/{len(self.steps)}] {name}: {what}')

    def _left(
        self, waiting: Collection[str], running: Mapping[str, Job], slots: int | None = None
    ) -> float:
        seconds = expected_durations(self.steps, self._timings())
        left = {step.name: seconds[step.name] for step in self.pending() if step.name in waiting}
        # A step beyond its expectation counts as nearly done.
        left |= {name: max(seconds[name] - job.elapsed(), 0.0) for name, job in running.items()}
        return seconds_left(self.steps, left, slots or self.slots)

    def _inputs(self, step: Step) -> dict[str, Any]:
        needs = {need: outputs_digest(self.root, self.by_name[need]) for need in step.needs}
        return {'digest': step_digest(self.files, step), 'needs': needs}

    def _stamp(self, step: Step) -> Path:
        return self.root / self.state / 'stamps' / f'{step.name}.json'

    def _mark(self, step: Step) -> Path:
        """What became of a step that is not done."""
        return self.root / self.state / 'marks' / f'{step.name}.json'

    @property
    def _timings_file(self) -> Path:
        return self.root / self.state / 'timings.json'

    def _timings(self) -> dict[str, float]:
        return read_stamp(self._timings_file)

    def _is_locked(self) -> bool:
        """Whether a sweep works on the state folder."""
        path = self.root / self.state / 'lock'
        if not path.is_file():
            return False
        with path.open('a+') as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    @contextmanager
    def _lock(self) -> Iterator[None]:
        path = self.root / self.state / 'lock'
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open('a+') as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                stream.seek(0)
                raise SweepError(
                    f'another sweep ({stream.read().strip()}) works below {self.state}'
                ) from None
            stream.truncate(0)
            stream.write(f'{self.grid}, process {os.getpid()}')
            stream.flush()
            yield
