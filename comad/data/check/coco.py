"""Check of COCO 2017: its files, and every entry of its annotations."""

from pathlib import Path
from typing import Any

from comad.data.check.findings import TURNED, Check, File, Findings, Inspected, list_names
from comad.data.coco import edges_of, is_box, is_id, mask_fault, read_annotations

SPLITS = ('train', 'val')
# Of 1 to 90 these are not used.
UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
# The official boxes are rounded to hundredths; a pixel more is no rounding.
TOLERANCE = 1.0


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
            try:
                content = read_annotations(path)
            except (OSError, ValueError) as error:
                findings.add('unreadable', str(error))
            else:
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
        found = {
            entry['id']: entry.get('name')
            for entry in content['categories']
            if is_id(entry.get('id'))
        }
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
            turned = '; its EXIF orientation is not applied' if result.remark == TURNED else ''
            findings.add('size', f'{result.file.name}: {found}, annotated as {stated}{turned}')

    def finish(self, findings: Findings) -> None:
        findings.checks.append('sizes of images')


def official_categories(findings: Findings) -> dict[int, str | None]:
    """The 80 ids with mmdet's names in their order; None for names without mmdet."""
    ids = [number for number in range(1, 91) if number not in UNUSED_IDS]
    try:
        from mmdet.datasets.coco import CocoDataset
    except ImportError:
        findings.notes.append('category names were not compared: mmdet is not installed')
        return dict.fromkeys(ids)
    return dict(zip(ids, CocoDataset.METAINFO['classes'], strict=True))


def check_annotations(
    content: dict[str, Any], file: str, findings: Findings
) -> dict[str, tuple[int, int]]:
    """Note what is wrong with images and instances of a file; edges of its images by their names.

    Boxes without area, of which the official training file has two, are a note, since mmdet leaves
    them out.
    """
    images: dict[Any, tuple[int, int]] = {}
    names: dict[str, tuple[int, int]] = {}
    for entry in content['images']:
        number, name, edges = entry.get('id'), entry.get('file_name'), edges_of(entry)
        if not isinstance(number, int) or not isinstance(name, str) or edges is None:
            findings.add('malformed image entry', f'{file}: image {number!r}, file {name!r}')
        elif '/' in name or name.startswith('.'):
            findings.add('malformed image entry', f'{file}: image {number}: file name {name!r}')
        elif number in images or name in names:
            findings.add('duplicate id', f'{file}: image {number}, {name} is there twice')
        else:
            images[number] = names[name] = edges
    categories = {entry.get('id') for entry in content['categories'] if is_id(entry.get('id'))}
    seen: set[Any] = set()
    flat = 0
    for entry in content['annotations']:
        number, image, category = (entry.get(key) for key in ('id', 'image_id', 'category_id'))
        place = f'{file}: annotation {number!r}'
        if not isinstance(number, int) or number in seen:
            findings.add('duplicate id', f'{place}: missing or there twice')
        else:
            seen.add(number)
        if not is_id(category) or category not in categories:
            findings.add('unknown category', f'{place}: category {category!r}')
        if not is_id(image) or image not in images:
            findings.add('unknown image', f'{place}: image {image!r}')
            continue
        reason, is_flat = box_fault(entry.get('bbox'), images[image])
        flat += is_flat
        if reason:
            findings.add('box', f'{place}: {reason}')
        if reason := mask_fault(entry.get('segmentation'), images[image]):
            findings.add('segmentation', f'{place}: {reason}')
    if flat:
        findings.notes.append(f'{file}: {flat} boxes without area, which mmdet leaves out')
    return names


def box_fault(box: Any, edges: tuple[int, int]) -> tuple[str | None, bool]:
    """What is wrong with ``[x, y, width, height]``, and whether it has no area."""
    if not is_box(box):
        return f'box {str(box)[:60]} is not [x, y, width, height]', False
    x, y, width, height = box
    if width < 0 or height < 0:
        return f'box {box} has a negative edge', False
    right, bottom = (edge + TOLERANCE for edge in edges)
    if min(x, y) < -TOLERANCE or x + width > right or y + height > bottom:
        return f'box {box} reaches out of the {edges[0]}x{edges[1]} image', False
    return None, not (width and height)
