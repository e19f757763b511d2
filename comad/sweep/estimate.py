"""How long the rest of a grid takes, from expected durations and what was measured here."""

from collections.abc import Mapping, Sequence

from comad.sweep.step import Step


def chain_seconds(steps: Sequence[Step], durations: Mapping[str, float]) -> dict[str, float]:
    """Return each step's own duration plus that of the longest chain of steps behind it."""
    behind = dict.fromkeys((step.name for step in steps), 0.0)
    total: dict[str, float] = {}
    for step in reversed(steps):
        total[step.name] = durations.get(step.name, 0.0) + behind[step.name]
        for need in step.needs:
            behind[need] = max(behind[need], total[step.name])
    return total


def expected_durations(steps: Sequence[Step], measured: Mapping[str, float]) -> dict[str, float]:
    """Return seconds per step: its own last measurement, else its expectation, scaled.

    The scale is the ratio of measured to expected seconds over the steps measured so far, so a
    machine half as fast as expected doubles what is left.
    """
    known = [step for step in steps if step.name in measured]
    expected = sum(step.seconds for step in known)
    scale = sum(measured[step.name] for step in known) / expected if expected else 1.0
    return {step.name: measured.get(step.name, step.seconds * scale) for step in steps}


def seconds_left(steps: Sequence[Step], left: Mapping[str, float], slots: int) -> float:
    """Return the seconds that ``left``, seconds per step not done yet, takes at least side by side.

    That is its longest chain, or all of it on all slots, whichever is longer.
    """
    chains = chain_seconds(steps, left).values()
    return max(*chains, sum(left.values()) / slots, 0.0)


def show_seconds(seconds: float) -> str:
    """Return a duration for people: ``40 s``, ``7 min``, ``1 h 20 min``."""
    if seconds < 55:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 60 else f'{minutes // 60} h {minutes % 60:02d} min'
