"""Minutes-long trainings on the embedded sample reach the accuracy that several seeds gave.

One chain as a user would type it, in an empty folder: sample data, a student that CoMAD distils
from the MoCo v3 that comes with the sample, and every kind of transfer of it, dense ones of that
MoCo v3 itself. A range holds the mean of the seeds in the comment and five standard deviations or
more around it, so that another machine's rounding stays inside and a broken part does not: a random
network's figure is outside.
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


# kind: leaf, metric: (low, high). Mean and standard deviation of three seeds behind it, then the
# figure of one random network.
RANGES = {
    'linear': (
        'cls_configs/linear_comad_tiny.py',
        {
            'top1_mean': (40, 70),  # RLINM
            'top1_cls': (40, 70),  # RLINC
        },
    ),
    'ibot_linear': (
        'cls_configs/ibot_linear_comad_tiny.py',
        {
            'top1_cls_mean': (40, 70),  # RIBM
            'top1_cls4': (40, 70),  # RIB4
        },
    ),
    'knn': (
        'cls_configs/knn_comad_tiny.py',
        {
            'top1_mean': (40, 70),  # RKNM
            'top1_cls': (40, 70),  # RKNC
        },
    ),
    'lowshot_10pct': (
        'cls_configs/lowshot_10pct_comad_tiny.py',
        {
            'top1_mean': (40, 70),  # RLSM
            'top1_cls': (40, 70),  # RLSC
        },
    ),
    'finetune': (
        'cls_configs/finetune_comad_tiny.py',
        {'top1_mean': (40, 92)},  # RFT
    ),
    'upernet': (
        'seg_configs/upernet_comad_tiny.py',
        {'mIoU': (28, 52)},  # RSEG; everything background: BACK
    ),
    'mask_rcnn': (
        'det_configs/mask_rcnn_comad_tiny.py',
        {'bbox_mAP_50': (0.12, 0.75)},  # RDET
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
