"""Check of data of one's own: every image, and labels in whatever form they are found."""

import os
from pathlib import Path

import numpy as np

from comad.data.check.findings import Check, File, Findings, Inspected
from comad.data.decode import IGNORED
from comad.data.files import FileIndex, index_files
from comad.data.own import SplitError, own_name, read_own
from comad.data.own_dense import MASKS, find_masks, find_objects
from comad.data.shards import CLASSES


class OwnCheck(Check):
    """All images below a folder; classes by folders or a CSV, COCO files, or masks."""

    name = 'own'
    official: dict[str, int] = {}
    layout = 'a folder of images'

    def list_files(self, findings: Findings) -> list[File]:
        index = index_files(self.root, fresh=True)
        findings.notes.append(f'name: {own_name(self.root)}')
        self.count(findings, 'images', len(index.paths))
        for place in index.others.tolist():
            findings.notes.append(f'not read, of another format: {os.fsdecode(place)}')
        self.masks, self.classes = (), 0
        try:
            read_own(self.root, labels=False)
        except (OSError, ValueError) as error:  # no images
            findings.add('layout', str(error))
            return []
        try:
            self._look_for_labels(index, findings)
        except (OSError, ValueError) as error:
            findings.add('layout', str(error))
        names = [os.fsdecode(path) for path in index.paths.tolist()]
        files = [self._file(name, self._kind(name)) for name in names]
        return files + [self._file(name, 'other') for name in index.table_names]

    def look_at(self, result: Inspected, findings: Findings) -> None:
        """Compare the values of a mask with classes.txt; 255 hides what is below it."""
        highest = result.values[1] if result.values else 0
        if self.classes <= highest != IGNORED and result.values:
            findings.add(
                'unknown class',
                f'{result.file.name}: holds {highest}, {CLASSES} names {self.classes} classes',
            )

    def _look_for_labels(self, index: FileIndex, findings: Findings) -> None:
        top = [name for name in index.table_names if '/' not in name]
        if CLASSES in top and b'images' in index.folders.tolist():
            self.masks = tuple(f'{name}/' for name in MASKS)
            scenes = find_masks(self.root)
            self.classes = len(scenes.classes)
        elif any(name.endswith('.json') for name in index.table_names):
            scenes = find_objects(self.root, masks=False)
        else:
            self._look_for_classes(top, findings)
            return
        findings.checks.append('annotations')
        self.count(findings, 'classes', len(scenes.classes))
        for split, images in scenes.images.items():
            self.count(findings, f'{split} images', images)

    def _look_for_classes(self, top: list[str], findings: Findings) -> None:
        try:
            own = read_own(self.root, labels=True)
        except ValueError as error:
            # Photos in folders need not be classes; a CSV, or splits of classes, are nothing else.
            if isinstance(error, SplitError) or any(name.endswith('.csv') for name in top):
                raise
            findings.notes.append(f'no labels: {error}')
            return
        findings.checks.append('classes')
        self.count(findings, 'classes', len(own.classes))
        for split, listed in own.splits.items():
            self.count(findings, f'{split} images', len(listed.paths))
            if listed.labels is not None:
                each = np.bincount(listed.labels)
                findings.notes.append(f'{split}: {each.min():,} to {each.max():,} images a class')

    def _file(self, name: str, kind: str) -> File:
        return File(name, str(Path(self.root) / name), kind)

    def _kind(self, name: str) -> str:
        return 'labels' if self.masks and name.startswith(self.masks) else 'image'
