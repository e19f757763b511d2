"""The measured study of the embedded sample shows what a working suite must show there.

Figures are those of results/sample_study.csv, in percent, three paired seeds each.
"""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from comad.data.sample.write import SampleSizes, write_sample
from comad.runs.place import FILES

MIN_SEEDS = 3
MIN_RENDERS = 4000
LINEAR_GAIN = 10.0
POOLED_SDS = 2.0
MIN_TIME_RATIO = 0.9
BACKGROUND_RATIO = 3.0
MIN_AP50 = 15.0
# mIoU of calling every pixel background: of the earlier sample, which the study is of, and of
# today's, computed anew below.
BACKGROUND, TODAY = 8.0, 6.8


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


def test_comad_is_far_beyond_a_random_student(study):
    gain = float(linear(study, 'comad')['mean']) - float(linear(study, 'scratch')['mean'])
    assert gain >= LINEAR_GAIN


def test_comad_is_beyond_mae_by_more_than_seeds_explain(study):
    comad, mae = linear(study, 'comad'), linear(study, 'mae')
    noise = POOLED_SDS * pooled_sd(*((float(r['sd']), int(r['n'])) for r in (comad, mae)))
    assert float(comad['mean']) - float(mae['mean']) > noise


def test_mae_was_given_as_much_time_as_comad(study):
    seconds = [float(linear(study, method)['pretrain_seconds']) for method in ('mae', 'comad')]
    assert seconds[0] / seconds[1] >= MIN_TIME_RATIO


def test_dense_tasks_learn(study):
    assert mean(study, 'comad_tiny', 'upernet', 'mIoU', '') >= BACKGROUND_RATIO * BACKGROUND
    assert mean(study, 'comad_tiny', 'mask_rcnn', 'bbox_mAP_50', '') >= MIN_AP50


@pytest.mark.parametrize(
    ('task', 'metric'),
    [
        ('upernet', 'mIoU'),
        pytest.param(
            *('mask_rcnn', 'bbox_mAP'),
            marks=pytest.mark.xfail(
                reason='measured on digits, the earlier sample: the random student detects better',
                strict=True,
            ),
        ),
    ],
)
def test_dense_tasks_gain_from_pretraining(study, task, metric):
    comad, scratch = (mean(study, s, task, metric, '') for s in ('comad_tiny', 'scratch_tiny'))
    assert comad >= scratch


def test_every_figure_is_of_several_seeds_and_many_images(study):
    assert study and all(int(row['n']) >= MIN_SEEDS for row in study.values())
    assert SampleSizes().imagenet_val >= MIN_RENDERS


@pytest.mark.slow
def test_all_background_is_worth_what_is_said(tmp_path):
    write_sample(tmp_path / 'sample')
    annotations = tmp_path / 'sample/ade/ADEChallengeData2016/annotations/validation'
    assert constant_miou(annotations) == pytest.approx(TODAY, abs=0.05)


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
