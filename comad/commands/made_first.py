"""What a command on the embedded sample makes before it starts: data that are not there yet."""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comad.runs.place import FILES, home
from comad.sweep import video
from comad.sweep.distillation import data_step
from comad.sweep.estimate import show_seconds
from comad.sweep.runner import Sweep
from comad.sweep.step import Step


def missing_data(cfg: Any) -> list[Step]:
    """The step that writes the sample's images or clips, where a run's config finds none."""
    root = Path(cfg.train_dataloader.dataset.root)
    if root.exists():
        return []
    if root.is_relative_to('data/sample_video'):
        return [video.data_step()]
    return [data_step()] if root.is_relative_to('data/sample') else []


def make(steps: Sequence[Step], grid: str) -> int:
    """Run what is missing, one after the other; returns an exit status.

    Raises:
        SweepError: Another sweep is at work.
    """
    sweep = Sweep(grid, steps, home(), files=FILES, slots=1, report=say)
    time = show_seconds(sum(step.seconds for step in steps))
    say(f'made first, about {time} on one core: {", ".join(step.name for step in steps)}')
    # An ended session or `kill` is treated as Ctrl-C: no step outlives this command.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return 0 if sweep.run().complete else 1
    except KeyboardInterrupt:
        print('interrupted; the same command goes on from here', file=sys.stderr)
        return 130


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)
