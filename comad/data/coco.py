"""COCO's annotation files: read, mistakes told in one line, and what has one right value added.

mmdet and pycocotools look keys up where they need them, which may be hours after the start, and
take an id of 0 for none. Here a file is looked at as a whole before anything is trained on it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from backbones.files import parse_json
from comad.data.subset import keep_split

ONE = {'images': 'image', 'annotations': 'annotation', 'categories': 'category'}
LISTS = tuple(ONE)
NAMED = 4  # of many names in one line
CHECK = 'python tools/data.py check, of coco or the folder of your own, names every one'


def read_annotations(path: str | Path) -> dict[str, Any]:
    """Contents of an annotation file: lists of objects ``images``, ``annotations``, ``categories``.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else.
    """
    content = parse_json(path)
    for key in LISTS:
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise ValueError(f'{path}: no list of objects under {key!r}')
    return content


def read_whole(path: str | Path, masks: bool) -> dict[str, Any]:
    """Contents of an annotation file that a detector can be trained and scored with.

    Annotations are numbered anew from 1. ``iscrowd`` is 0 and ``area`` that of the mask, or of the
    box, where they are not stated; annotations of images that the file does not have are left out.

    Args:
        masks: Whether every annotation has to have one.

    Raises:
        OSError: it cannot be read.
        ValueError: an entry lacks what has no default; in one line with their number.
    """
    content = read_annotations(path)
    faults: Counter[str] = Counter()
    first: dict[str, str] = {}

    def note(kind: str, number: Any, reason: str | None) -> None:
        if reason:
            faults[kind] += 1
            first.setdefault(kind, f'{ONE[kind]} {number!r}: {reason}')

    images: dict[Any, tuple[int, int]] = {}
    for entry in content['images']:
        note('images', entry.get('id'), _image_fault(entry, images))
        if not faults:
            images[entry['id']] = edges_of(entry)
    categories = {}
    for entry in content['categories']:
        number, name = entry.get('id'), entry.get('name')
        known = not is_id(number) or number in categories or name in categories.values()
        twice = 'no id and name of its own' if known or not _is_name(name) else None
        note('categories', number, twice)
        if not twice:
            categories[number] = name
    for kind, known in (('images', images), ('categories', categories)):
        if len({type(number) for number in known}) > 1:  # which pycocotools cannot sort
            note(kind, list(known)[-1], 'ids are numbers and texts')
    kept = []
    written = {str(number): number for number in images}
    for entry in content['annotations'] if not faults else ():
        image = entry.get('image_id')
        if is_id(image) and image not in images and str(image) in written:
            other = written[str(image)]
            note('annotations', entry.get('id'), f'image_id {image!r}, the image has {other!r}')
        elif is_id(image) and image in images:
            note('annotations', entry.get('id'), _complete(entry, images[image], categories, masks))
            kept.append(entry)
    for kind, count in faults.items():
        raise ValueError(
            f'{path}: {count:,} of {len(content[kind]):,} {kind} cannot be used, {first[kind]}; '
            f'{CHECK}'
        )
    # pycocotools takes the number 0 for no match.
    content['annotations'] = [{**entry, 'id': n} for n, entry in enumerate(kept, start=1)]
    return content


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and bool(name.strip())


def _image_fault(entry: dict[str, Any], known: dict[Any, Any]) -> str | None:
    if not is_id(entry.get('id')) or entry['id'] in known:
        return 'no id of its own'
    if not isinstance(entry.get('file_name'), str):
        return 'no file_name'
    if edges_of(entry) is None:
        return f'width {entry.get("width")!r} and height {entry.get("height")!r}, expected pixels'
    return None


def _complete(
    entry: dict[str, Any], edges: tuple[int, int], categories: dict[Any, str], masks: bool
) -> str | None:
    """Add what is missing and has a default; what is wrong with the rest."""
    if not is_id(category := entry.get('category_id')) or category not in categories:
        return f'category_id {category!r} is none of the file'
    if not is_box(box := entry.get('bbox')) or min(box[2:]) < 0:
        return f'bbox {str(box)[:60]} is not [x, y, width, height]'
    if entry.setdefault('iscrowd', 0) not in (0, 1):
        return f'iscrowd {entry["iscrowd"]!r} is neither 0 nor 1'
    fault = mask_fault(entry.get('segmentation'), edges)
    if isinstance(mask := entry.get('segmentation'), list):
        # Of several polygons those without area are left out, as mmdet does it.
        whole = [polygon for polygon in mask if polygon_fault(polygon) is None]
        if whole:
            entry['segmentation'], fault = whole, None
    if masks and fault:
        return f'segmentation: {fault}'
    if not is_number(entry.setdefault('area', box[2] * box[3] if fault else _area(entry, edges))):
        return f'area {entry["area"]!r} is no number'
    return None


def _area(entry: dict[str, Any], edges: tuple[int, int]) -> float:
    from pycocotools import mask

    width, height = edges
    runs = entry['segmentation']
    if isinstance(runs, list) or isinstance(runs['counts'], list):
        runs = mask.frPyObjects(runs, height, width)
    return float(mask.area(mask.merge(runs) if isinstance(runs, list) else runs))


@cache
def annotations_type() -> type:
    """mmdet's `COCO`, which reads a file by `read_whole` and finds categories by name.

    A function, because comad is importable without mmdet.
    """
    from mmdet.datasets.api_wrappers import COCO

    class WholeCOCO(COCO):
        """Args: the file, whether its annotations have to have masks, and which split is drawn."""

        def __init__(
            self, path: str, masks: bool = True, own: Mapping[str, Any] | None = None
        ) -> None:
            super().__init__()
            self.path, self.dataset = path, read_whole(path, masks)
            kept = keep_split([entry['file_name'] for entry in self.dataset['images']], own)
            images = [entry for entry in self.dataset['images'] if entry['file_name'] in kept]
            self.dataset['images'] = images
            self.imgs = {entry['id']: entry for entry in self.dataset['images']}
            self.cats = {entry['id']: entry for entry in self.dataset['categories']}
            for entry in self.dataset['annotations'] if own is None else self._of_images():
                self.anns[entry['id']] = entry
                self.imgToAnns[entry['image_id']].append(entry)
                self.catToImgs[entry['category_id']].append(entry['image_id'])

        def _of_images(self) -> list[dict[str, Any]]:
            entries = self.dataset['annotations']
            self.dataset['annotations'] = [e for e in entries if e['image_id'] in self.imgs]
            return self.dataset['annotations']

        def get_cat_ids(self, cat_names: Sequence[str] = (), **options: Any) -> list[Any]:
            """Ids in the order of the names, which is that of labels; mmdet's is the file's."""
            if not cat_names:
                return super().get_cat_ids(**options)
            found = {entry['name']: number for number, entry in self.cats.items()}
            if missing := [name for name in cat_names if name not in found]:
                raise ValueError(
                    f'{self.path}: its categories are {_named(list(found))}; the classes of the '
                    f'config are {_named(cat_names)}, {_named(missing)} not among them: set '
                    'metainfo.classes of every data set, and num_classes of the heads'
                )
            for name in found.keys() - set(cat_names):
                if count := len(self.catToImgs[found[name]]):
                    print_log(
                        f'{self.path}: {count:,} annotations of the category {name} are left out: '
                        'metainfo.classes does not have it',
                        logger='current',
                        level=30,
                    )
            return [found[name] for name in cat_names]

    return WholeCOCO


def _named(names: Sequence[str]) -> str:
    more = f' and {len(names) - NAMED} more' if len(names) > NAMED else ''
    return (', '.join(map(str, names[:NAMED])) or 'none') + more


def edges_of(entry: dict[str, Any]) -> tuple[int, int] | None:
    """Width and height of an image entry."""
    edges = entry.get('width'), entry.get('height')
    good = all(isinstance(edge, int) and edge > 0 for edge in edges)
    return edges if good else None  # type: ignore[return-value]


def mask_fault(mask: Any, edges: tuple[int, int]) -> str | None:
    """What is wrong with a segmentation: polygons, or run lengths (a list or COCO's text)."""
    width, height = edges
    if isinstance(mask, dict):
        counts = mask.get('counts')
        if mask.get('size') != [height, width]:
            return f'run lengths of size {mask.get("size")}, the image has {[height, width]}'
        if isinstance(counts, str) and (counts := _runs_of(counts)) is None:
            return "run lengths as a text that is not COCO's"
        if not isinstance(counts, list) or not all(isinstance(run, int) for run in counts):
            return 'run lengths are neither numbers nor a text'
        if min(counts, default=-1) < 0 or sum(counts) != width * height:
            return f'run lengths add up to {sum(counts)}, not {width * height}'
        return None
    if not isinstance(mask, list) or not mask:
        return 'neither polygons nor run lengths'
    return next(filter(None, map(polygon_fault, mask)), None)


def _runs_of(text: str) -> list[int] | None:
    """Run lengths of COCO's text: from the third on as differences to the last but one, in digits
    of 5 bits from the lowest, with a bit for "more" and, in the last, the sign; None for no such
    text.
    """
    runs: list[int] = []
    value = shift = 0
    for digit in (ord(letter) - 48 for letter in text):
        if not 0 <= digit < 64:
            return None
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        value -= (digit & 16) << (shift - 4)
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return None if shift else runs


def polygon_fault(polygon: Any) -> str | None:
    """What is wrong with ``[x, y, x, y, ...]``."""
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        return 'a polygon needs three points or more, x and y each'
    return None if all(map(is_number, polygon)) else 'a polygon holds something that is no number'


def is_box(box: Any) -> bool:
    """Whether it is four numbers."""
    return isinstance(box, list) and len(box) == 4 and all(map(is_number, box))


def is_id(value: Any) -> bool:
    """Whether a JSON value can be an id of COCO's."""
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9
