"""Checks with the numbers of the small sample of these tests."""

import json

from comad.data.check import run
from comad.data.check.ade20k import ADE20KCheck
from comad.data.check.coco import COCOCheck
from comad.data.check.imagenet import ImageNetCheck
from comad.data.sample.layouts import wnid
from comad.data.sample.scenes import CLASSES

IMAGES = {'train images': 30, 'val images': 20, 'val images per class': 2}
IMAGES |= {'train classes': 10, 'val classes': 10}
SCENES = {'train images': 12, 'val images': 8}
WNIDS = [wnid(digit) for digit in range(10)]
CATEGORIES = {digit + 1: name for digit, name in enumerate(CLASSES)}


def check(root, expected=None, **options):
    """Outcome of the check that the folder's name says."""
    if root.name == 'ade':
        made = ADE20KCheck(root, expected or SCENES, classes=11)
    elif root.name == 'coco':
        made = COCOCheck(root, expected or SCENES, categories=CATEGORIES)
    else:
        made = ImageNetCheck(root, expected or IMAGES, wnids=WNIDS)
    return run.check_dataset(made, **options)


def problems(root, expected=None, **options):
    """Kind -> lines, as check.txt has them too."""
    outcome = check(root, expected, **options)
    found = outcome.findings.problems
    listed = [f'{kind}: {line}' for kind, lines in found.items() for line in lines]
    path = outcome.root / 'check.txt'
    assert (path.read_text().splitlines() if path.exists() else []) == listed
    shown = outcome.lines()
    assert all(f'  {lines[0]}' in shown for lines in found.values())
    manifest = json.loads((outcome.root / 'manifest.json').read_text())
    assert manifest['problems'] == len(listed)
    return found
