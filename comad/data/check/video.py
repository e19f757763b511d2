"""Checks of Kinetics-400 and Something-Something V2: lists, labels, files, and how many are gone."""

import os
from collections import Counter
from pathlib import Path

import numpy as np

from comad.data.check.findings import Check, File, Findings
from comad.data.video import FRAME, Video, read_list

SPLITS = ('train', 'val')


class VideoCheck(Check):
    """The lists of a set on video against its files.

    Videos that are gone, as a part of Kinetics is, are a problem where they are more than the
    stated share of a list; otherwise a note with their number, which the manifest keeps. Lists
    that are shorter than the official ones are taken for what is left of them by the same share.

    Args:
        root, expected, prefix: see `Check`.
        missing_share: share of each official list that may be missing.
    """

    classes: int
    title: str  # in records and tables

    def __init__(
        self,
        root: str | Path,
        expected: dict[str, int] | None = None,
        prefix: str = '',
        missing_share: float = 0.0,
    ) -> None:
        super().__init__(root, expected, prefix)
        if not 0 <= missing_share < 1:
            raise ValueError(f'missing_share={missing_share}: expected a share from 0 to below 1')
        self.missing_share = missing_share

    def list_files(self, findings: Findings) -> list[File]:
        findings.checks += ['lists', 'labels', 'files of the lists', 'counts']
        files: list[File] = []
        for split in SPLITS:
            path = self.root / f'{split}.csv'
            try:
                videos = read_list(path, self.classes)
            except FileNotFoundError:
                findings.add('missing', f'{path}: no such list; expected {self.layout}')
                continue
            except ValueError as error:
                findings.add('malformed list', str(error))
                continue
            files += [File(f'{self.prefix}{split}.csv', str(path), 'other')]
            files += self._files(split, videos, findings)
        return files

    def _files(self, split: str, videos: list[Video], findings: Findings) -> list[File]:
        names = [video.name for video in videos]
        for name in sorted(name for name, times in Counter(names).items() if times > 1):
            findings.add('listed twice', f'{self.prefix}{split}.csv: {name}')
        seen = np.unique([video.label for video in videos])
        self.count(findings, f'{split} classes', len(seen))
        found: list[File] = []
        gone: list[str] = []
        for video in videos:
            parts = self._parts(video)
            if parts and all(os.path.isfile(part.path) for part in parts):
                found += parts
            else:
                gone.append(video.name)
        total = self.expected.get(f'{split} videos', len(videos))
        left = len(videos) - len(gone)
        findings.count(f'{self.prefix}{split} videos', left, None)
        missing = total - left
        line = f'{self.prefix}{split}: {missing:,} of {total:,} videos are missing'
        if missing < 0:
            findings.add('wrong count', f'{line}: more are there than expected')
        elif missing > self.missing_share * total:
            findings.add('missing videos', f'{line}; up to a share of {self.missing_share:g} may')
        elif missing:
            findings.notes.append(line)
        if gone:
            remarks = findings.remarks.setdefault('listed, but not there', [])
            remarks += [f'{self.prefix}{split}: {name}' for name in gone]
        if gone and split != 'train':
            findings.add(
                'missing videos',
                f'{self.prefix}{split}.csv lists {len(gone):,} that are not there, at first '
                f'{gone[0]}: a test never leaves one out; take them out of the list',
            )
        return found

    def _parts(self, video: Video) -> list[File]:
        name, path = f'{self.prefix}{video.name}', self.root / video.name
        if video.frames is None:
            return [File(name, str(path), 'video')]
        numbered = (FRAME.format(number + 1) for number in range(video.frames))
        return [File(f'{name}/{frame}', str(path / frame)) for frame in numbered]


class Kinetics400Check(VideoCheck):
    """Kinetics-400 in VideoMAE's layout."""

    name = 'kinetics400'
    title = 'kinetics-400'
    classes = 400
    official = {
        'train videos': 240_436,
        'val videos': 19_796,
        'train classes': 400,
        'val classes': 400,
    }
    layout = 'train.csv and val.csv with lines "path label", and the files that they name'


class SSV2Check(VideoCheck):
    """Something-Something V2 as files or as frames."""

    name = 'ssv2'
    title = 'ssv2'
    classes = 174
    official = {
        'train videos': 168_913,
        'val videos': 24_777,
        'train classes': 174,
        'val classes': 174,
    }
    layout = (
        'train.csv and val.csv with lines "folder frames label" or "path label", and what they name'
    )


VIDEO_CHECKS = (Kinetics400Check, SSV2Check)
