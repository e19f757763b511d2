"""What a training was told, start by start: what a resumed one may change, and what is recorded.

Nothing here imports torch.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from comad.runs.resolved import flatten
from comad.tasks.protocol import OBSERVERS, TRAINING

# Keys of the message hub, hence of checkpoints.
SETTINGS, SEGMENTS = 'settings', 'segments'
# What a training computes follows from these; all other keys say where and how it runs.
DECIDING = (*TRAINING, 'data_preprocessor', 'auto_scale_lr', 'randomness')
# Hooks of pretrainings that look on, beside the transfers'.
WATCHING = (*OBSERVERS, 'online_probe', 'student_export', 'pretrain_figure')
# Of `DECIDING`, what may differ all the same. Seed, batch and data are compared by what they are
# in the run, see `comad.engine.loops.check_identity`.
FREE = re.compile(
    r'train_dataloader\.(num_workers|persistent_workers|pin_memory|prefetch_factor|timeout|'
    r'batch_size|dataset\.(root|data_root))'
    r'|train_cfg\.(val_\w+|dynamic_intervals)|randomness\.seed'
    r'|model\.(test_cfg\b.*|(.+\.)?init_cfg\.(root|track))'
)
LENGTH = re.compile(r'train_cfg\.(max_epochs|max_iters)')
SCHEDULE = re.compile(rf'{LENGTH.pattern}|param_scheduler\b.*')
ABSENT = '(not set)'
MOST_CHARACTERS = 120


def settings(config: Mapping[str, Any]) -> dict[str, str]:
    """Return what of a resolved config decides the numbers of a training, as text by dotted key."""
    chosen = {key: config[key] for key in DECIDING if key in config}
    hooks = chosen.get('default_hooks') or {}
    chosen['default_hooks'] = {k: hook for k, hook in hooks.items() if k not in WATCHING}
    return {k: repr(v) for k, v in flatten(chosen).items() if not FREE.fullmatch(k)}


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return both values of every setting that differs."""
    return {
        key: (before.get(key, ABSENT), now.get(key, ABSENT))
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    }


def refusal(differ: Mapping[str, tuple[str, str]], extend: bool) -> str:
    """Return why a run that differs in these settings cannot go on; '' if it can.

    Another length, with ``extend`` any other schedule of the learning rate, can be gone on with:
    the rates are then those of the new schedule, see `BenchmarkRunner.resume`.
    """
    allowed = SCHEDULE if extend else LENGTH
    for key, (before, now) in differ.items():
        if not allowed.fullmatch(key):
            return describe(key, before, now, '')
    return ''


def describe(key: str, before: str, now: str, other_way: str) -> str:
    """Return the line of a refusal that names key, both values and what would work."""
    before, now = (
        text if len(text) <= MOST_CHARACTERS else f'{text[:MOST_CHARACTERS]}...'
        for text in (before, now)
    )
    return (
        f'the checkpoint was written with {key} {before}, this run has {now}: resume with the '
        f'same{other_way}, or start a new run in another --work-dir'
    )


def add_segment(
    known: Sequence[Mapping[str, Any]],
    step: int,
    planned: int,
    digest: str,
    git: Sequence[Any],
    job: str | None = None,
) -> list[dict[str, Any]]:
    """Return the segments of a training that goes on at ``step``.

    Args:
        known: Those until now; what was lost since the last checkpoint is no longer in them.
        step: Steps done.
        planned: Steps of the whole training, as its config says.
        digest: Of the config, see `comad.engine.run_config.config_digest`.
        git: Commit and dirty flag of the source tree.
        job: Number of the Slurm job; one that is queued again keeps it.
    """
    kept = [dict(segment) for segment in known if segment['begin'] < step]
    commit, dirty = git
    new = dict(
        begin=step, planned=planned, config_digest=digest, git_commit=commit, git_dirty=dirty
    )
    if job:
        new['job'] = job
    if kept and {**kept[-1], 'begin': step} == new:
        return kept
    return [*kept, new]


def worth_telling(segments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the entry ``segments`` of a card or record; none for one job from a clean tree."""
    told = len(segments) > 1 or any(part['begin'] or part['git_dirty'] for part in segments)
    return {'segments': list(segments)} if told else {}


def digest_of(segments: Sequence[Mapping[str, Any]], digest: str) -> str:
    """Return what stands for the config of a training: its own digest, or one over several."""
    if len({segment['config_digest'] for segment in segments}) < 2:
        return digest
    lines = [f'{segment["begin"]} {segment["config_digest"]}\n' for segment in segments]
    return hashlib.sha256(''.join(lines).encode()).hexdigest()
