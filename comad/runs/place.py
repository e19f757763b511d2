"""Where things lie: the project's files, and the folders of runs and results.

Paths of runs and results are relative to the folder that a command works in.
"""

from pathlib import Path

# The folder that holds configs, published figures and tools.
REPOSITORY = Path(__file__).resolve().parents[2]


def pretrain_root(sample: bool) -> str:
    """Folder of the pretraining runs."""
    return 'work_dirs/sample/pretrain' if sample else 'work_dirs/pretrain'
