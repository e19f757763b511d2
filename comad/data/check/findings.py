"""What a check finds, and what a check of a data set has to offer."""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

# Remarks: data may have come like that. Labels drawn on the turned picture do not fit it.
TURNED = 'EXIF orientation, pixels are read as stored'
DEEP = '16 bits a channel, read by the higher 8'


class File(NamedTuple):
    """A file to look at, or a part of one.

    Args:
        name: in reports and in the manifest, with '/'.
        path: of the file that is read.
        kind: 'image', 'labels' (an image of class indices), 'video' or 'other', which is not
            decoded.
        offset: where its bytes begin in ``path``.
        size: in bytes; None for the whole file.
    """

    name: str
    path: str
    kind: str = 'image'
    offset: int = 0
    size: int | None = None


class Inspected(NamedTuple):
    """What is known of a file: what was not looked at is None; ``remark`` is no problem."""

    file: File
    size: int
    sha256: str | None = None
    error: str | None = None
    edges: tuple[int, int] | None = None
    values: tuple[int, int] | None = None
    remark: str | None = None


class Findings:
    """Problems by kind, notes, counts and the checks that were made.

    Attributes:
        problems: kind -> one line each.
        remarks: kind -> one line each: files to know of that are no problems.
        notes: lines that are no problems.
        counts: name -> number.
        checks: what was looked at, in words.
    """

    def __init__(self) -> None:
        self.problems: dict[str, list[str]] = {}
        self.remarks: dict[str, list[str]] = {}
        self.notes: list[str] = []
        self.counts: dict[str, int] = {}
        self.checks: list[str] = []

    def add(self, kind: str, line: str) -> None:
        """Note a problem."""
        self.problems.setdefault(kind, []).append(' '.join(line.split()))

    def count(self, name: str, found: int, expected: int | None) -> None:
        """Note a number, a problem where it is not the expected one."""
        self.counts[name] = found
        if expected is not None and found != expected:
            self.add('wrong count', f'{name}: {found:,}, expected {expected:,}')

    @property
    def total(self) -> int:
        """Number of problems."""
        return sum(map(len, self.problems.values()))


class Check(ABC):
    """Check of one data set.

    Args:
        root: folder of the data set.
        expected: numbers to compare with, by the names of `Findings.counts`; default the official.
        prefix: before the names of files, where several data sets make one report.
    """

    name: str
    official: dict[str, int]
    layout: str

    def __init__(
        self, root: str | Path, expected: dict[str, int] | None = None, prefix: str = ''
    ) -> None:
        self.root, self.prefix = Path(root), prefix
        self.expected = self.official if expected is None else expected

    @abstractmethod
    def list_files(self, findings: Findings) -> list[File]:
        """All files to look at; problems of layout, classes and counts are noted."""

    def look_at(self, result: Inspected, findings: Findings) -> None:  # noqa: B027 (optional)
        """Take up the result of one file that could be read."""

    def finish(self, findings: Findings) -> None:  # noqa: B027 (optional)
        """Called when all files have been looked at."""

    def count(self, findings: Findings, name: str, found: int) -> None:
        """Note a number and compare it with the expected one."""
        label = f'{self.prefix}{name}'
        findings.count(label, found, self.expected.get(name))

    def folder(self, findings: Findings, name: str) -> Path | None:
        """The folder, or None and a problem that says what is expected."""
        path = self.root / name
        if path.is_dir():
            return path
        findings.add('missing', f'{path}: no such folder; expected {self.layout}')
        return None


def list_names(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Sorted file names with one of the suffixes, in any case; hidden files left out."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith('.') and entry.name.lower().endswith(suffixes)
        )
