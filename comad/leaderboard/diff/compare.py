"""``diff A B``: two runs or two commits, whichever the names mean."""

from collections.abc import Sequence
from pathlib import Path

from comad.leaderboard.diff.commits import (
    CommitsDifference,
    branches_and_tags,
    compare_commits,
    find_commit,
)
from comad.leaderboard.diff.names import RECORDS, Run, UnknownName, find_run, near_names
from comad.leaderboard.diff.runs import RunsDifference, compare_runs


def compare(
    first: str, second: str, commits: bool = False, folders: Sequence[Path] = RECORDS
) -> RunsDifference | CommitsDifference:
    """Compare what two names mean; a name that is a run and a commit is the run.

    Args:
        first: A record, a run's folder, ``<task>_<student>`` for all seeds of a row, or a commit.
        second: The same.
        commits: Whether both are commits, whatever else they may name.
        folders: Folders of records that names are looked up in.

    Raises:
        UnknownName: If a name means nothing here; the message lists near names.
        ValueError: If one is a run and the other a commit, or a file cannot be read.
    """
    found = [_find(name, commits, folders) for name in (first, second)]
    a, b = found
    if isinstance(a, Run) and isinstance(b, Run):
        return compare_runs(a, b)
    if isinstance(a, str) and isinstance(b, str):
        return compare_commits((first, a), (second, b))
    run, commit = (first, second) if isinstance(a, Run) else (second, first)
    raise ValueError(f'{run} is a run and {commit} is a commit; give two runs or two commits')


def _find(name: str, commits: bool, folders: Sequence[Path]) -> Run | str:
    try:
        found = None if commits else find_run(name, folders)
    except UnknownName:
        # A folder that is no run may still be called like a branch or a tag.
        if (found := find_commit(name)) is None:
            raise
    if found is None:
        found = find_commit(name)
    if found is None:
        kinds = 'no commit' if commits else 'no record, no run folder, no row and no commit'
        near = near_names(name, () if commits else folders, branches_and_tags())
        raise UnknownName(f'{name} is {kinds}; {near}')
    return found
