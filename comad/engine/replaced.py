"""What a new run in the folder of an old one replaces: said, and only for --overwrite done."""

from pathlib import Path

from comad.engine.options import ConfigError
from comad.engine.preemption import FINISHED, REQUEUE, say

# Everything a run leaves that the next one would not write over, or only in part. Logs stay.
LEFT = (
    '*.pth', '*.pth.sha256', 'last_checkpoint', 'student.safetensors', 'student.json',
    'resolved_*.py', 'bad_images.txt', FINISHED, REQUEUE,
)  # fmt: skip
SHOWN = 6


def left_by_runs(work_dir: str | Path) -> list[Path]:
    """The files that runs have left in a folder, sorted by name."""
    return sorted({path for pattern in LEFT for path in Path(work_dir).glob(pattern)})


def check_replaced(work_dir: str | Path, overwrite: bool) -> None:
    """Refuse to start anew where a run has finished, unless that is asked for.

    One that has not finished is replaced, and that is said.

    Raises:
        ConfigError: The folder holds a finished run.
    """
    folder = Path(work_dir)
    if not (left := left_by_runs(folder)) or overwrite:
        return
    if (folder / FINISHED).exists():
        raise ConfigError(
            f'{folder} holds a finished run: choose another --work-dir, or --overwrite to '
            f'replace it ({_listed(left)})'
        )
    if checkpoints := [path for path in left if path.suffix == '.pth']:
        say(
            f'{folder} holds a run that has not finished ({_listed(checkpoints)}): this one starts '
            'from the beginning and replaces it; --resume goes on with it'
        )


def clear(work_dir: str | Path) -> None:
    """Remove what an earlier run has left, and say so."""
    if left := left_by_runs(work_dir):
        say(f'--overwrite: removed from {work_dir}: {_listed(left)}')
    for path in left:
        path.unlink(missing_ok=True)


def _listed(paths: list[Path]) -> str:
    more = f' and {len(paths) - SHOWN} more' if len(paths) > SHOWN else ''
    return ', '.join(path.name for path in paths[:SHOWN]) + more
