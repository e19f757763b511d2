"""Check of CIFAR-100's binary version."""

from pathlib import Path

import numpy as np

from comad.data.check.findings import Check, File, Findings
from comad.data.cifar_files import COARSE, FILES, FINE, LAYOUT, OFFICIAL, open_records, read_classes


class CIFAR100Check(Check):
    """Files, sizes, names of the classes, labels, images per class."""

    name = 'cifar100'
    official = {
        **OFFICIAL,
        'superclasses': 20,
        'train images per class': 500,
        'val images per class': 100,
    }
    layout = LAYOUT

    def list_files(self, findings: Findings) -> list[File]:
        findings.checks += ['sizes', 'labels', 'images per class']
        files = [
            File(f'{self.prefix}{name}', str(self.root / name), 'other') for name in self._there()
        ]
        classes = self._names(FINE, 'classes', findings)
        coarse = self._names(COARSE, 'superclasses', findings)
        for split in FILES:
            try:
                labels = np.asarray(open_records(self.root, split)[:, :2])
            except FileNotFoundError as error:
                findings.add('missing', str(error))
                continue
            except ValueError as error:
                findings.add('damaged file', str(error))
                continue
            self.count(findings, f'{split} images', len(labels))
            self._labels(split, labels[:, 1], classes, findings)
            if coarse and (largest := int(labels[:, 0].max())) >= coarse:
                findings.add('labels', f'{self.prefix}{split}: superclass {largest} of {coarse}')
        return files

    def _there(self) -> list[str]:
        return [n for n in (*FILES.values(), FINE, COARSE) if (Path(self.root) / n).is_file()]

    def _names(self, file: str, what: str, findings: Findings) -> int:
        path = self.root / file
        if not path.is_file():
            findings.add('missing', f'{path}: no such file; expected {self.layout}')
            return 0
        names = read_classes(self.root) if file == FINE else path.read_text().split()
        if len(set(names)) != len(names):
            findings.add('labels', f'{self.prefix}{file}: a name is there twice')
        self.count(findings, what, len(names))
        return len(names)

    def _labels(self, split: str, labels: np.ndarray, classes: int, findings: Findings) -> None:
        if classes and (largest := int(labels.max())) >= classes:
            findings.add('labels', f'{self.prefix}{split}: label {largest} of {classes} classes')
        each = self.expected.get(f'{split} images per class')
        for label, found in enumerate(np.bincount(labels, minlength=classes).tolist()):
            if each is not None and found != each:
                where = f'{self.prefix}{split}, class {label}'
                findings.add('wrong count', f'{where}: {found:,} images, expected {each:,}')
