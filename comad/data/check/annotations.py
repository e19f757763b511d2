"""Entries of a COCO annotation file, one by one."""

from typing import Any

from comad.data.check.findings import Findings, is_number

# The official boxes are rounded to hundredths; a pixel more is no rounding.
TOLERANCE = 1.0


def check_annotations(
    content: dict[str, Any], file: str, findings: Findings
) -> dict[str, tuple[int, int]]:
    """Note what is wrong with images and instances.

    Args:
        content: with lists of objects ``images``, ``annotations`` and ``categories``.
        file: name for the reports.
        findings: takes problems; boxes without area, of which the official training file has two,
            are a note, since mmdet leaves them out.

    Returns:
        Width and height of each image by file name.
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
    categories = {entry.get('id') for entry in content['categories'] if _hashable(entry.get('id'))}
    seen: set[Any] = set()
    flat = 0
    for entry in content['annotations']:
        number, image, category = (entry.get(key) for key in ('id', 'image_id', 'category_id'))
        place = f'{file}: annotation {number!r}'
        if not isinstance(number, int) or number in seen:
            findings.add('duplicate id', f'{place}: missing or there twice')
        else:
            seen.add(number)
        if not _hashable(category) or category not in categories:
            findings.add('unknown category', f'{place}: category {category!r}')
        if not _hashable(image) or image not in images:
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


def edges_of(entry: dict[str, Any]) -> tuple[int, int] | None:
    """Width and height of an image entry."""
    edges = entry.get('width'), entry.get('height')
    good = all(isinstance(edge, int) and edge > 0 for edge in edges)
    return edges if good else None  # type: ignore[return-value]


def box_fault(box: Any, edges: tuple[int, int]) -> tuple[str | None, bool]:
    """What is wrong with ``[x, y, width, height]``, and whether it has no area."""
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        return f'box {str(box)[:60]} is not [x, y, width, height]', False
    x, y, width, height = box
    if width < 0 or height < 0:
        return f'box {box} has a negative edge', False
    right, bottom = (edge + TOLERANCE for edge in edges)
    if min(x, y) < -TOLERANCE or x + width > right or y + height > bottom:
        return f'box {box} reaches out of the {edges[0]}x{edges[1]} image', False
    return None, not (width and height)


def mask_fault(mask: Any, edges: tuple[int, int]) -> str | None:
    """What is wrong with a segmentation: polygons, or run lengths (a list or COCO's text)."""
    width, height = edges
    if isinstance(mask, dict):
        counts = mask.get('counts')
        if mask.get('size') != [height, width]:
            return f'run lengths of size {mask.get("size")}, the image has {[height, width]}'
        if isinstance(counts, str):
            return None if counts else 'empty run lengths'
        if not isinstance(counts, list) or not all(isinstance(run, int) for run in counts):
            return 'run lengths are neither numbers nor a text'
        if min(counts, default=-1) < 0 or sum(counts) != width * height:
            return f'run lengths add up to {sum(counts)}, not {width * height}'
        return None
    if not isinstance(mask, list) or not mask:
        return 'neither polygons nor run lengths'
    for polygon in mask:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            return 'a polygon needs three points or more, x and y each'
        if not all(map(is_number, polygon)):
            return 'a polygon holds something that is no number'
    return None


def _hashable(value: Any) -> bool:
    return isinstance(value, (int, str))
