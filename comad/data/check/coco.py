"""Check of COCO 2017."""

import json
from pathlib import Path
from typing import Any

from comad.data.check.annotations import check_annotations
from comad.data.check.findings import Check, File, Findings, Inspected, list_names

SPLITS = ('train', 'val')
# Of 1 to 90 these are not used.
UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


class COCOCheck(Check):
    """Annotation files against the images: references, sizes, boxes, masks, categories.

    Args:
        root, expected, prefix: see `Check`.
        categories: id -> name; default the official ones, names from mmdet if it is installed.
    """

    name = 'coco'
    official = {
        'train images': 118_287,
        'val images': 5000,
        'train instances': 860_001,
        'val instances': 36_781,
        'train categories': 80,
        'val categories': 80,
    }
    layout = 'train2017, val2017 and annotations/instances_{train,val}2017.json'

    def __init__(
        self,
        root: str | Path,
        expected: dict[str, int] | None = None,
        prefix: str = '',
        categories: dict[int, str | None] | None = None,
    ) -> None:
        super().__init__(root, expected, prefix)
        self.categories = categories
        self.edges: dict[str, tuple[int, int]] = {}

    def list_files(self, findings: Findings) -> list[File]:
        findings.checks += ['folders', 'counts', 'references', 'boxes', 'masks', 'category ids']
        if self.categories is None:
            self.categories = official_categories(findings)
        if None not in self.categories.values():
            findings.checks.append('category names')
        files: list[File] = []
        for split in SPLITS:
            names = None
            if folder := self.folder(findings, f'{split}2017'):
                names = list_names(folder, ('.jpg',))
                self.count(findings, f'{split} images', len(names))
                files += [
                    File(f'{self.prefix}{split}2017/{name}', str(folder / name)) for name in names
                ]
            path = self.root / f'annotations/instances_{split}2017.json'
            if not path.is_file():
                findings.add('missing', f'{path}: no such file; expected {self.layout}')
                continue
            files.append(File(f'{self.prefix}annotations/{path.name}', str(path), 'other'))
            content = read_annotations(path, findings)
            if content is not None:
                self._compare(split, path.name, content, names, findings)
        return files

    def _compare(
        self,
        split: str,
        file: str,
        content: dict[str, Any],
        names: list[str] | None,
        findings: Findings,
    ) -> None:
        self.count(findings, f'{split} instances', len(content['annotations']))
        self.count(findings, f'{split} categories', len(content['categories']))
        found = {entry.get('id'): entry.get('name') for entry in content['categories']}
        for number in sorted(self.categories.keys() | found.keys(), key=str):
            wanted, name = self.categories.get(number, 'no such id'), found.get(number, 'missing')
            if number in self.categories and wanted is None and number in found:
                continue
            if wanted != name:
                wanted = '' if wanted is None else f', expected {wanted}'
                findings.add('category', f'{file}: category {number}: {name}{wanted}')
        images = check_annotations(content, file, findings)
        for name, edges in images.items():
            self.edges[f'{self.prefix}{split}2017/{name}'] = edges
        if names is not None:
            for name in sorted(images.keys() - set(names)):
                findings.add('missing image', f'{file}: {split}2017/{name} does not exist')
            for name in sorted(set(names) - images.keys()):
                findings.add('image without entry', f'{split}2017/{name}: not in {file}')

    def look_at(self, result: Inspected, findings: Findings) -> None:
        expected = self.edges.get(result.file.name)
        if result.edges is not None and expected is not None and result.edges != expected:
            found, stated = ('x'.join(map(str, edges)) for edges in (result.edges, expected))
            findings.add('size', f'{result.file.name}: {found}, annotated as {stated}')

    def finish(self, findings: Findings) -> None:
        findings.checks.append('sizes of images')


def read_annotations(path: Path, findings: Findings) -> dict[str, Any] | None:
    """Contents of an annotation file: lists of objects; None and a problem if it is none."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        findings.add('unreadable', f'{path}: not valid JSON ({error})')
        return None
    for key in ('images', 'annotations', 'categories'):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            findings.add('unreadable', f'{path}: no list of objects under {key!r}')
            return None
    return content


def official_categories(findings: Findings) -> dict[int, str | None]:
    """The 80 ids with mmdet's names in their order; None for names without mmdet."""
    ids = [number for number in range(1, 91) if number not in UNUSED_IDS]
    try:
        from mmdet.datasets.coco import CocoDataset
    except ImportError:
        findings.notes.append('category names were not compared: mmdet is not installed')
        return dict.fromkeys(ids)
    return dict(zip(ids, CocoDataset.METAINFO['classes'], strict=True))
