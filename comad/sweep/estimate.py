"""How long the rest of a grid takes, from expected durations and what was measured here."""

from collections.abc import Iterable, Mapping, Sequence

from comad.sweep.step import Step


def critical_seconds(steps: Sequence[Step], durations: Mapping[str, float]) -> dict[str, float]:
    """Return each step's own duration plus that of the longest chain of steps behind it."""
    behind = dict.fromkeys((step.name for step in steps), 0.0)
    total: dict[str, float] = {}
    for step in reversed(steps):
        total[step.name] = durations[step.name] + behind[step.name]
        for need in step.needs:
            behind[need] = max(behind[need], total[step.name])
    return total


def expected_durations(steps: Iterable[Step], measured: Mapping[str, float]) -> dict[str, float]:
    """Return seconds per step: its own last measurement, else its expectation, scaled.

    The scale is the ratio of measured to expected seconds over the steps measured so far, so a
    machine half as fast as expected doubles what is left.
    """
    steps = list(steps)
    known = [step for step in steps if step.name in measured]
    expected = sum(step.seconds for step in known)
    scale = sum(measured[step.name] for step in known) / expected if expected else 1.0
    return {step.name: measured.get(step.name, step.seconds * scale) for step in steps}


def seconds_left(
    steps: Sequence[Step],
    durations: Mapping[str, float],
    slots: int,
    waiting: Iterable[str],
    running: Mapping[str, float],
) -> float:
    """Return the seconds until all of ``waiting`` and ``running`` are through, side by side.

    Args:
        steps: All steps, needs before the steps that need them.
        durations: Seconds per step.
        slots: Threads that may be busy at the same time.
        waiting: Names of the steps still to be started.
        running: Seconds that each running step has been running.
    """
    by_name = {step.name: step for step in steps}
    order = critical_seconds(steps, durations)
    queue = sorted(waiting, key=lambda name: -order[name])
    busy = {n: max(durations[n] - elapsed, 0.0) for n, elapsed in running.items()}
    clock = 0.0
    while queue or busy:
        free = slots - sum(min(by_name[name].threads, slots) for name in busy)
        unfinished = set(queue) | set(busy)
        for name in list(queue):
            threads = min(by_name[name].threads, slots)
            if threads <= free and not unfinished.intersection(by_name[name].needs):
                queue.remove(name)
                busy[name] = clock + durations[name]
                free -= threads
        clock = min(busy.values())
        busy = {name: end for name, end in busy.items() if end > clock}
    return clock


def show_seconds(seconds: float) -> str:
    """Return a duration for people: ``40 s``, ``7 min``, ``1 h 20 min``."""
    if seconds < 55:
        return f'{max(seconds, 0):.0f} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 60 else f'{minutes // 60} h {minutes % 60:02d} min'
