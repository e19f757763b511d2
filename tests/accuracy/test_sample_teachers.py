"""The recipes of the sample's teachers, shortened to less than a minute, still teach.

Trained whole, MAE takes half an hour, MoCo v3 more than two hours and iBOT twenty minutes; what
came of it is in the cards beside the files, and tests/engine/test_shipped.py asks those files. Here
each recipe takes two epochs, MoCo v3 four, of 1,000 images, 32 at a time, all else as it is. Losses
are asked: k-NN does not move yet. iBOT starts from the MoCo v3 that comes with the sample, as it
does when trained whole; there k-NN has to stay, which a collapse would take to 10 %.
"""

import json

import pytest

from comad.data.sample.write import SampleSizes, write_sample
from comad.runs.place import FILES
from tests.programs import run

pytestmark = pytest.mark.slow

SHORT = (
    'train_dataloader.batch_size=32',
    'param_scheduler.0.end=1',
    'param_scheduler.1.begin=1',
    'default_hooks.online_probe.bank=600',
    'default_hooks.online_probe.queries=400',
    'default_hooks.logger.interval=5',
)
# Epochs, and (low, high) of the last five steps. Behind it two seeds, and two with a rate of zero.
RANGES = {
    'mae_base': (2, {'loss_pixel': (0.5, 0.9)}),  # 0.640, 0.637; 1.590, 1.421
    'mocov3_base': (4, {'loss': (1.6, 2.82)}),  # 2.730, 2.697; 2.932, 2.912
    'ibot_base': (
        2,
        {
            'loss_cls': (4.6, 5.9),  # 5.51, 5.33; 6.31, 6.15
            'probe_knn_cls': (40, 75),  # 54.0, 59.8; 54.8, 60.5
        },
    ),
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('teachers')
    write_sample(folder / 'data/sample', sizes=SampleSizes(1000, 10, 1, 1))
    run(f'{FILES}/tools/weights.py', 'place', 'mocov3_base', log=folder / 'log', cwd=folder)
    return folder


@pytest.mark.parametrize('teacher', RANGES)
def test_a_shortened_recipe_reaches_its_range(folder, teacher):
    leaf = f'{FILES}/pretrain_configs/{teacher}.py'
    epochs, ranges = RANGES[teacher]
    options = ('--sample', '--seed', '1', '--cfg-options', *SHORT, f'train_cfg.max_epochs={epochs}')
    run(f'{FILES}/tools/train.py', leaf, *options, log=folder / 'log', cwd=folder)
    (scalars,) = folder.glob(f'work_dirs/sample/pretrain/{teacher}/seed1/*/vis_data/scalars.json')
    last = {}
    for line in scalars.read_text().splitlines():
        last |= json.loads(line)
    for name, (low, high) in ranges.items():
        assert low <= last[name] <= high, (name, last)
