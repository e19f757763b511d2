"""What a track's study has, lacks and takes: rows of students, hours of steps, the next command."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from comad.data.identity import ROOTS
from comad.engine.run_config import PRETRAIN
from comad.recipes.price import DECODE_RATE, FILE, Price, known_price, price_of
from comad.runs.track import Track
from comad.sweep.grid import resolved
from comad.sweep.runner import Sweep
from comad.sweep.step import Step


@dataclass
class Row:
    """One student of a study.

    Attributes:
        student: Its name.
        done: What is made of it, ``pretrain`` or the kind of a task -> seeds that are done, of all.
        hours: That what is to do takes.
        gigabytes: That all of it leaves on the disk.
        missing: Paths that no step makes, as far as steps to do need them.
    """

    student: str
    done: dict[str, tuple[int, int]] = field(default_factory=dict)
    hours: float = 0.0
    gigabytes: float = 0.0
    missing: list[str] = field(default_factory=list)


@dataclass
class Plan:
    """A study's rows, the hours of each kind of step, what is missing, and what to type next."""

    title: str
    rows: list[Row]
    hours: dict[str, float]
    missing: dict[str, str]
    next: str

    def as_json(self) -> dict[str, Any]:
        """Plain Python for ``--json``."""
        rows = [vars(row) for row in self.rows]
        return {**vars(self), 'rows': rows, 'hours_in_all': sum(row.hours for row in self.rows)}


def priced(
    steps: Sequence[Step],
    track: Track,
    gpus: int,
    tflops: float,
    rate: float = DECODE_RATE,
    report: Callable[[str], None] = lambda line: None,
) -> list[Step]:
    """Return the steps with the durations that counted operations give.

    Args:
        steps: Of a track whose steps are trainings alone.
        track: The track.
        gpus: That each has.
        tflops: TFLOP/s that a GPU sustains.
        rate: Images per second that a data worker decodes.
        report: Told once if configs have to be counted, which takes half a second each.
    """
    unknown = {step.command[2] for step in steps if _known(step, track) is None}
    if unknown:
        report(f'counting what {len(unknown)} configs cost; kept in {FILE}')
    return [
        replace(step, seconds=3600 * price_of(_config(step, track)).hours(gpus, tflops, rate))
        for step in steps
    ]


def make_plan(sweep: Sweep, track: Track, tflops: float) -> Plan:
    """Return the plan of a study whose steps are `priced`."""
    pending = {step.name for step in sweep.pending()}
    rows: dict[str, Row] = {}
    hours: dict[str, float] = {}
    missing: dict[str, str] = {}
    for step in (step for step in sweep.steps if step.part):
        row = rows.setdefault(step.student, Row(step.student))
        done, count = row.done.get(step.part, (0, 0))
        row.done[step.part] = (done + (step.name not in pending), count + 1)
        of_own = step.part == PRETRAIN
        hours[f'{step.part} {step.student}' if of_own else step.part] = step.seconds / 3600
        price = _known(step, track)
        row.gigabytes += price.megabytes / 1000 if price else 0.0
        if step.name in pending:
            row.hours += step.seconds / 3600
            lost = {path: line for path, line in step.files if not (sweep.root / path).exists()}
            missing |= lost
            row.missing += [path for path in lost if path not in row.missing]
    tasks = [part for part in hours if not part.startswith(PRETRAIN)]
    title = (
        f'{track.title}: {len(rows)} students x {len(tasks)} tasks, '
        f'{sweep.gpus} GPU{"s" if sweep.gpus > 1 else ""} that sustain {tflops:g} TFLOP/s'
    )
    return Plan(title, list(rows.values()), hours, missing, _next(sweep, track, missing))


def plan_text(plan: Plan) -> str:
    """The plan for a terminal."""
    columns = list(dict.fromkeys(what for row in plan.rows for what in row.done))
    table = [('student', *columns, 'hours', 'GB', 'missing')]
    for row in plan.rows:
        cells = [f'{row.done[c][0]}/{row.done[c][1]}' if c in row.done else '' for c in columns]
        lost = ', '.join(row.missing)
        table.append((row.student, *cells, f'{row.hours:.2f}', f'{row.gigabytes:.2f}', lost))
    hours = sum(row.hours for row in plan.rows)
    size = sum(row.gigabytes for row in plan.rows)
    table.append(('all', *([''] * len(columns)), f'{hours:.2f}', f'{size:.2f}', ''))
    lines = [plan.title, '', *_aligned(table), '', 'hours of one step:']
    lines += _aligned([(f'  {what}', f'{value:.2f}') for what, value in plan.hours.items()])
    lines += [
        '',
        '(the longer of computing, which is counted, and decoding; evaluation is left out)',
    ]
    lines += [f'- {line}' for line in plan.missing.values()]
    return '\n'.join([*lines, f'next: {plan.next}'])


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield '  '.join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()


def _next(sweep: Sweep, track: Track, missing: dict[str, str]) -> str:
    """The command that brings the study on: what is missing first, then the study itself."""
    for path in missing:
        if path.startswith('data/'):
            fitting = (name for name, root in ROOTS.items() if root.startswith(path.rstrip('/')))
            name = next(fitting, path)
            return f'python tools/data.py check {name}    # once its files are there (docs/data.md)'
        return f'put the file in place: {path} (docs/data.md)'
    if not sweep.pending():
        return f'python tools/leaderboard.py{track.option}'
    return f'python tools/sweep.py study{track.option}'


def _config(step: Step, track: Track) -> dict[str, Any]:
    return resolved(step.command[2], track.name)._cfg_dict.to_dict()


def _known(step: Step, track: Track) -> Price | None:
    return known_price(resolved(step.command[2], track.name).run.digest)
