"""Minutes-long trainings on the embedded sample reach the accuracy that several seeds gave.

One chain as a user would type it, in an empty folder: sample data, a student that CoMAD distils
from the MoCo v3 that comes with the sample, and every kind of transfer of it, dense ones of that
MoCo v3 itself. A range is wide around what the seeds of the comment gave, so that another machine's
rounding stays inside and a broken part does not: a network that has learned nothing is outside.
"""

import json
from pathlib import Path

import pytest

from comad.runs.place import FILES
from tests.programs import run

pytestmark = pytest.mark.slow

STUDENT, TEACHER = 'comad_only_mocov3_tiny', 'mocov3_base'


def tool(folder, *arguments):
    run(*arguments, log=folder / 'log', cwd=folder)


def train(folder, leaf, *options):
    tool(folder, f'{FILES}/tools/train.py', f'{FILES}/{leaf}', '--sample', *options)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sample')
    tool(folder, f'{FILES}/tools/data.py', 'sample')
    train(folder, f'pretrain_configs/{STUDENT}.py')
    return folder


# kind: leaf, metric: (low, high). Behind it the mean of two seeds (mIoU: one run), then the
# figure of one network that has learned nothing here: 7 epochs of MAE, dense tasks: random weights.
RANGES = {
    'linear': (
        'cls_configs/linear_comad_tiny.py',
        {
            'top1_mean': (38, 68),  # 52.6; 20.5
            'top1_cls': (30, 75),  # 52.7; 17.1
        },
    ),
    'ibot_linear': (
        'cls_configs/ibot_linear_comad_tiny.py',
        {
            'top1_cls_mean': (36, 72),  # 53.8; 17.6
            'top1_cls4': (28, 70),  # 48.1; 16.6
        },
    ),
    'knn': (
        'cls_configs/knn_comad_tiny.py',
        {
            'top1_mean': (36, 64),  # 49.7; 11.0
            'top1_cls': (28, 68),  # 47.2; 10.4
        },
    ),
    'lowshot_10pct': (
        'cls_configs/lowshot_10pct_comad_tiny.py',
        {
            'top1_mean': (34, 58),  # 45.6; 16.9
            'top1_cls': (28, 66),  # 46.5; 13.8
        },
    ),
    'finetune': (
        'cls_configs/finetune_comad_tiny.py',
        {'top1_mean': (33, 80)},  # 54.8; 21.8
    ),
    'upernet': (
        'seg_configs/upernet_comad_tiny.py',
        {'mIoU': (33, 50)},  # 40.8; 24.6
    ),
    'mask_rcnn': (
        'det_configs/mask_rcnn_comad_tiny.py',
        {'bbox_mAP_50': (0.18, 0.5)},  # 0.333; 0.083, over five seeds
    ),
}


@pytest.mark.parametrize('kind', RANGES)
def test_accuracy(folder, kind):
    leaf, metrics = RANGES[kind]
    student = STUDENT if leaf.startswith('cls') else TEACHER
    train(folder, leaf, '--student', student)
    path = Path(folder, f'results/sample/records/{kind}_{student}_p0_s0.json')
    record = json.loads(path.read_text())
    for name, (low, high) in metrics.items():
        assert low <= record['metrics'][name] <= high, (name, record['metrics'])
