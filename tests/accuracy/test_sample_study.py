"""The measured study of the embedded sample shows what a working suite must show there.

Figures are those of results/sample_study.csv, in percent, three or five paired seeds each.
"""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from comad.data.sample.write import SampleSizes, write_sample
from comad.runs.place import FILES
from comad.sweep.grid import TEACHERS

MIN_SEEDS = 3
MIN_RENDERS = 4000
LINEAR_GAIN = 10.0
POOLED_SDS = 2.0
MIN_TIME_RATIO = 0.9
BACKGROUND_RATIO = 3.0
MIN_AP50 = 15.0
# mIoU of calling every pixel background, computed anew below.
BACKGROUND = 6.8


@pytest.fixture(scope='module')
def study():
    """(student, task, metric, pool) -> row."""
    with (FILES / 'results/sample_study.csv').open(newline='') as stream:
        rows = list(csv.DictReader(stream))
    return {(r['student'], r['task'], r['metric'], r['pool']): r for r in rows}


def linear(study, method):
    # CoMAD trains patch tokens; its class token gets no target, so the mean of the patches decides.
    return study[f'{method}_tiny', 'linear', 'top1', 'mean']


def mean(study, *key):
    return float(study[key]['mean'])


def lead(one, other):
    return float(one['mean']) - float(other['mean'])


def noise(*rows):
    return pooled_sd(*((float(row['sd']), int(row['n'])) for row in rows))


def test_comad_is_far_beyond_a_random_student(study):
    assert lead(linear(study, 'comad'), linear(study, 'scratch')) >= LINEAR_GAIN


def test_comad_is_beyond_mae_by_more_than_seeds_explain(study):
    comad, mae = linear(study, 'comad'), linear(study, 'mae')
    assert lead(comad, mae) > POOLED_SDS * noise(comad, mae)


def test_mae_was_given_as_much_time_as_comad(study):
    seconds = [float(linear(study, method)['pretrain_seconds']) for method in ('mae', 'comad')]
    assert seconds[0] / seconds[1] >= MIN_TIME_RATIO


def test_dense_tasks_learn(study):
    assert mean(study, 'comad_tiny', 'upernet', 'mIoU', '') >= BACKGROUND_RATIO * BACKGROUND
    assert mean(study, 'comad_tiny', 'mask_rcnn', 'bbox_mAP_50', '') >= MIN_AP50


@pytest.mark.parametrize(
    'key',
    [
        ('linear', 'top1', 'mean'),
        ('knn', 'top1', 'mean'),
        ('finetune', 'top1', 'mean'),
        ('upernet', 'mIoU', ''),
        ('mask_rcnn', 'bbox_mAP', ''),
    ],
)
def test_students_are_between_random_weights_and_teachers(study, key):
    comad, random = (study[(f'{name}_tiny', *key)] for name in ('comad', 'scratch'))
    assert lead(comad, random) > POOLED_SDS * noise(comad, random)
    for teacher in TEACHERS:
        assert mean(study, teacher, *key) > float(comad['mean'])


def test_every_figure_is_of_several_seeds_and_many_images(study):
    assert study and all(int(row['n']) >= MIN_SEEDS for row in study.values())
    assert SampleSizes().imagenet_val >= MIN_RENDERS


@pytest.mark.slow
def test_all_background_is_worth_what_is_said(tmp_path):
    scenes = SampleSizes(imagenet_train=10, imagenet_val=10, scenes_train=1)  # these are all there
    write_sample(tmp_path / 'sample', sizes=scenes)
    annotations = tmp_path / 'sample/ade/ADEChallengeData2016/annotations/validation'
    assert constant_miou(annotations) == pytest.approx(BACKGROUND, abs=0.05)


def pooled_sd(first, second):
    """Square root of the mean variance of two (sd, n), weighted by degrees of freedom."""
    (sd, n), (other_sd, other_n) = first, second
    return math.sqrt(((n - 1) * sd**2 + (other_n - 1) * other_sd**2) / (n + other_n - 2))


def constant_miou(folder: Path) -> float:
    """mIoU in percent of calling every pixel the most frequent class; 0 is no label."""
    images = [np.asarray(Image.open(path)) for path in sorted(folder.glob('*.png'))]
    counts = sum(np.bincount(image.ravel(), minlength=256) for image in images)[1:]
    return 100 * counts.max() / counts.sum() / np.count_nonzero(counts)


def test_pooled_sd_weights_by_degrees_of_freedom():
    # (2 * 4 + 4 * 1) / 6 = 2
    assert pooled_sd((2.0, 3), (1.0, 5)) == pytest.approx(2**0.5)


def test_background_value_matches_a_confusion_matrix(tmp_path):
    generator = np.random.default_rng(0)
    labels = generator.choice([0, 1, 2, 3], size=(4, 8, 8), p=[0.1, 0.6, 0.2, 0.1])
    for number, label in enumerate(labels):
        Image.fromarray(label.astype(np.uint8)).save(tmp_path / f'{number}.png')
    truth = labels[labels > 0]
    ious = [np.sum((truth == c) & (c == 1)) / np.sum((truth == c) | (c == 1)) for c in (1, 2, 3)]
    assert constant_miou(tmp_path) == pytest.approx(100 * np.mean(ious))
