import json
import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from comad.data.check.coco import COCOCheck, box_fault, official_categories
from comad.data.check.findings import Findings
from comad.data.coco import mask_fault
from tests.data.check.examples import check, problems

FILE = 'instances_val2017.json'
IMAGE = '000000500001.jpg'


def edit(root, change):
    path = root / 'annotations' / FILE
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_whole_set_has_no_problems(coco):
    outcome = check(coco)
    assert outcome.findings.problems == {}
    assert outcome.files == 12 + 8 + 2
    assert outcome.findings.counts['val images'] == 8


def changed(key, value, entries='annotations'):
    def change(content):
        content[entries][0][key] = value

    return change


@pytest.mark.parametrize(
    ('change', 'kind', 'line'),
    [
        (changed('image_id', 7), 'unknown image', 'annotation 5000010: image 7'),
        (changed('image_id', [1]), 'unknown image', 'annotation 5000010: image [1]'),
        (changed('category_id', 99), 'unknown category', 'annotation 5000010: category 99'),
        (changed('bbox', [0, 0, 66, 5]), 'box',
         'annotation 5000010: box [0, 0, 66, 5] reaches out of the 64x64 image'),
        (changed('bbox', [0, 0, -3, 5]), 'box',
         'annotation 5000010: box [0, 0, -3, 5] has a negative edge'),
        (changed('bbox', None), 'box',
         'annotation 5000010: box None is not [x, y, width, height]'),
        (changed('segmentation', [[1, 2, 3]]), 'segmentation',
         'annotation 5000010: a polygon needs three points or more, x and y each'),
        (changed('segmentation', []), 'segmentation',
         'annotation 5000010: neither polygons nor run lengths'),
        (changed('name', 'dog', 'categories'), 'category', 'category 1: dog, expected stripes'),
        (changed('width', 0, 'images'), 'malformed image entry',
         f"image 500001, file '{IMAGE}'"),
        (changed('file_name', '../x.jpg', 'images'), 'malformed image entry',
         "image 500001: file name '../x.jpg'"),
        (lambda content: content['annotations'].append(content['annotations'][0]),
         'duplicate id', 'annotation 5000010: missing or there twice'),
        (lambda content: content['images'].append(content['images'][0]),
         'duplicate id', f'image 500001, {IMAGE} is there twice'),
    ],
)  # fmt: skip
def test_each_problem_of_annotations_is_one_line(coco, change, kind, line):
    edit(coco, change)
    assert problems(coco, quick=True)[kind] == [f'{FILE}: {line}']


def test_images_are_compared_with_their_entries(coco):
    Image.new('RGB', (50, 40)).save(coco / 'val2017' / IMAGE)
    (coco / 'val2017/000000500002.jpg').rename(coco / 'val2017/spare.jpg')
    os.truncate(coco / 'val2017/000000500003.jpg', 500)
    found = problems(coco)
    assert found['size'] == [f'val2017/{IMAGE}: 50x40, annotated as 64x64']
    assert found['missing image'] == [f'{FILE}: val2017/000000500002.jpg does not exist']
    assert found['image without entry'] == [f'val2017/spare.jpg: not in {FILE}']
    assert found['damaged file'][0].startswith('val2017/000000500003.jpg: cannot be read')


def test_missing_and_unreadable_files_are_named(coco):
    path = coco / 'annotations' / FILE
    path.write_text('{"images": [')
    assert problems(coco)['unreadable'][0].startswith(f'{path} is not valid JSON: ')
    path.write_text('{"images": [1], "annotations": [], "categories": []}')
    assert problems(coco)['unreadable'] == [f"{path}: no list of objects under 'images'"]
    path.unlink()
    shutil.rmtree(coco / 'train2017')
    expected = 'expected train2017, val2017 and annotations/instances_{train,val}2017.json'
    assert problems(coco)['missing'] == [
        f'{path}: no such file; {expected}', f'{coco}/train2017: no such folder; {expected}'
    ]  # fmt: skip


def test_many_problems_are_cut_on_screen_only(coco):
    def change(content):
        for entry in content['annotations']:
            entry['image_id'] = 0

    edit(coco, change)
    outcome = check(coco, quick=True)
    found = outcome.findings.problems['unknown image']
    assert len(found) > 10
    lines = outcome.lines()
    assert f'unknown image ({len(found)}):' in lines
    assert f'  and {len(found) - 10} more' in lines
    assert sum(line.startswith(f'  {FILE}: annotation') for line in lines) == 10
    assert len((coco / 'check.txt').read_text().splitlines()) == len(found)


def test_wrong_counts_are_stated(coco):
    found = problems(coco, {'train instances': 860_001, 'val images': 8}, quick=True)
    (line,) = found['wrong count']
    assert line.startswith('train instances: ') and line.endswith(', expected 860,001')


def test_boxes_without_area_are_a_note_like_the_official_ones(coco):
    edit(coco, changed('bbox', [1.5, 2.5, 1.03, 0.0]))
    outcome = check(coco, quick=True)
    assert outcome.findings.problems == {}
    assert f'{FILE}: 1 boxes without area, which mmdet leaves out' in outcome.lines()


@pytest.mark.parametrize(
    ('box', 'good'),
    [([0, 0, 64, 48], True), ([63.5, 0, 1.5, 1], True), ([63.5, 0, 1.6, 1], False),
     ([-1.1, 0, 5, 5], False), ([0, 0, 5, float('nan')], False), ([0, 0, 5, True], False)],
)  # fmt: skip
def test_boxes_may_be_off_by_a_pixel(box, good):
    assert (box_fault(box, (64, 48))[0] is None) == good


@pytest.mark.parametrize(
    ('mask', 'good'),
    [
        ([[0, 0, 1, 0, 1, 1]], True),
        ([[0, 0, 1, 0, 1, 1, 2]], False),
        ([[0, 0, 1, 0, 1, 'x']], False),
        ({'size': [2, 3], 'counts': [1, 5]}, True),
        ({'size': [3, 2], 'counts': [1, 5]}, False),
        ({'size': [2, 3], 'counts': [1, 4]}, False),
        ({'size': [2, 3], 'counts': [7, -1]}, False),
        ({'size': [2, 3], 'counts': '15'}, True),
        ({'size': [2, 3], 'counts': '05'}, False),  # 5 of 6 pixels
        ({'size': [2, 3], 'counts': 'abc'}, False),
        ({'size': [2, 3], 'counts': ''}, False),
        ({'size': [2, 3]}, False),
        ('polygon', False),
        (None, False),
    ],
)
def test_masks_are_polygons_or_run_lengths(mask, good):
    assert (mask_fault(mask, (3, 2)) is None) == good


def test_the_text_of_run_lengths_is_that_of_pycocotools():
    coder = pytest.importorskip('pycocotools.mask')
    for seed in range(20):
        runs = np.random.default_rng(seed).integers(0, 3000, 9).tolist()
        height = sum(runs)
        text = coder.frPyObjects({'size': [height, 1], 'counts': runs}, height, 1)['counts']
        mask = {'size': [height, 1], 'counts': text.decode()}
        assert mask_fault(mask, (1, height)) is None
        assert f'add up to {height}' in mask_fault(mask | {'size': [height + 1, 1]}, (1, height + 1))


def test_official_categories_with_and_without_mmdet(monkeypatch):
    findings = Findings()
    monkeypatch.setitem(sys.modules, 'mmdet.datasets.coco', None)
    ids = official_categories(findings)
    assert len(ids) == 80 and set(ids.values()) == {None} and max(ids) == 90
    assert findings.notes == ['category names were not compared: mmdet is not installed']
    monkeypatch.undo()
    pytest.importorskip('mmdet')
    names = official_categories(Findings())
    assert (names[1], names[13], names[90]) == ('person', 'stop sign', 'toothbrush')
    assert COCOCheck.official['val instances'] == 36_781


def test_ids_alone_are_compared_without_names(coco):
    made = COCOCheck(coco, {}, categories=dict.fromkeys(range(1, 10)))
    findings = Findings()
    made.list_files(findings)
    assert findings.problems['category'] == [
        f'instances_{split}2017.json: category 10: dashes, expected no such id'
        for split in ('train', 'val')
    ]
