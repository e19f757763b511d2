import os
import shutil

import numpy as np
import pytest
from PIL import Image

from comad.data.check.ade20k import ADE20KCheck
from tests.data.check.examples import SCENES, check, problems

LABELS = 'annotations/validation/ADE_val_00000001.png'


def test_a_whole_set_has_no_problems(ade):
    outcome = check(ade)
    assert outcome.findings.problems == {}
    assert outcome.files == 2 * (12 + 8)
    assert 'train images: 12' in outcome.lines()


def test_the_folder_above_may_be_given(ade):
    above = ade.parent / 'above'
    above.mkdir()
    ade.rename(above / 'ADEChallengeData2016')
    assert ADE20KCheck(above, SCENES).root == above / 'ADEChallengeData2016'


def save(path, values):
    Image.fromarray(values).save(path)


@pytest.mark.parametrize(
    ('harm', 'kind', 'line'),
    [
        (lambda path: path.unlink(), 'missing labels',
         f'images/validation/ADE_val_00000001.jpg: no {LABELS}'),
        (lambda path: save(path, np.ones((64, 48), np.uint8)), 'size',
         f'{LABELS}: 48x64, its image 64x64'),
        (lambda path: save(path, np.full((64, 64), 200, np.uint8)), 'label value',
         f'{LABELS}: holds 200, expected 0 to 11'),
        (lambda path: save(path, np.ones((64, 64, 3), np.uint8)), 'damaged file',
         f'{LABELS}: mode RGB, not class indices'),
        (lambda path: os.truncate(path, 60), 'damaged file',
         f'{LABELS}: cannot be read as an image ('),
        (lambda path: path.write_bytes(b'text'), 'damaged file',
         f'{LABELS}: cannot be read as an image ('),
    ],
    ids=['missing', 'size', 'value', 'mode', 'truncated', 'no image'],
)  # fmt: skip
def test_each_problem_of_labels_is_one_line(ade, harm, kind, line):
    harm(ade / LABELS)
    found = problems(ade)
    assert list(found) == [kind]
    (shown,) = found[kind]
    assert shown == line or (line.endswith('(') and shown.startswith(line))


def test_labels_without_image_and_wrong_counts(ade):
    (ade / 'images/training/ADE_train_00000002.jpg').unlink()
    found = problems(ade, quick=True)
    assert found['missing image'] == [
        'annotations/training/ADE_train_00000002.png: no images/training/ADE_train_00000002.jpg'
    ]
    assert found['wrong count'] == ['train images: 11, expected 12']


def test_a_missing_folder_is_named(ade):
    shutil.rmtree(ade / 'annotations/training')
    assert problems(ade)['missing'] == [
        f'{ade}/annotations/training: no such folder; '
        'expected images and annotations, each with training and validation'
    ]


def test_the_official_numbers():
    assert ADE20KCheck.official == {'train images': 20_210, 'val images': 2000}
    assert ADE20KCheck('.').classes == 150
