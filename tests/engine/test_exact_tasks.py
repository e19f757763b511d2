"""The suite's own configs on a small sample: what is killed and resumed equals the whole run."""

import pytest
import torch

from comad.data.sample.write import SampleSizes, write_sample
from comad.engine.options import RunOptions
from comad.engine.run_config import load_run_config
from comad.runs.place import FILES
from tests.engine.resume_toy import train

pytestmark = pytest.mark.slow
LOADER = 'train_dataloader'
SIZES = SampleSizes(imagenet_train=30, imagenet_val=20, scenes_train=24, scenes_val=8)
SCHEDULE = [dict(type='CosineAnnealingLR', convert_to_iter_based=True)]
ITERATIONS = {
    'param_scheduler': [dict(type='PolyLR', by_epoch=False)],
    'train_cfg.max_iters': 8,
    'train_cfg.val_interval': 5,
}
# name: leaf, changes, step to stop before, step to resume from.
TASKS = {
    'upernet': ('seg_configs/upernet_comad_tiny.py', ITERATIONS, 7, 6),
    'mask_rcnn': ('det_configs/mask_rcnn_comad_tiny.py', ITERATIONS, 7, 6),
    'mask_rcnn in epochs': (
        'det_configs/mask_rcnn_comad_tiny.py',
        {
            'train_cfg': dict(type='EpochBasedTrainLoop', max_epochs=2),
            f'{LOADER}.sampler.type': 'DefaultSampler',
            f'{LOADER}.batch_sampler': dict(type='AspectRatioBatchSampler'),
        },
        7,
        6,
    ),
    'linear': (
        'cls_configs/linear_comad_tiny.py',
        {'param_scheduler': SCHEDULE, 'train_cfg.max_epochs': 3, 'train_cfg.cached_passes': 0},
        10,
        9,
    ),
    'linear on cached features': (
        'cls_configs/linear_comad_tiny.py',
        {'param_scheduler': SCHEDULE, 'train_cfg.max_epochs': 3, 'train_cfg.cached_passes': 2},
        10,
        9,
    ),
    'finetune': (
        'cls_configs/finetune_comad_tiny.py',
        {
            'param_scheduler': SCHEDULE,
            'train_cfg.max_epochs': 2,
            f'{LOADER}.dataset.subset': None,
        },
        7,
        6,
    ),
}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tasks')
    write_sample(folder / 'data/sample', seed=3, sizes=SIZES)
    return folder


def config(leaf, changes, folder, **options):
    changes = {
        f'{LOADER}.batch_size': 4,
        'default_hooks.checkpoint': dict(
            type='SafeCheckpointHook', by_epoch=False, interval=3, max_keep_ckpts=2
        ),
        'log_level': 'ERROR',
        **changes,
    }
    loop = changes.pop('train_cfg', None)
    options = RunOptions(
        str(FILES / leaf),
        track='sample',
        student='scratch_tiny',
        work_dir=str(folder),
        cfg_options=changes,
        **options,
    )
    found = load_run_config(options)
    found.train_cfg = loop or found.train_cfg
    for name in ('run_record', 'prediction_figure'):
        found.default_hooks.pop(name, None)
    return found


DENSE = ('upernet', 'mask_rcnn', 'mask_rcnn in epochs')


# The dense tasks take long: they run with worker processes, which is what users have.
@pytest.mark.parametrize(
    ('name', 'workers'), [(n, w) for n in TASKS for w in (0, 2) if w or n not in DENSE]
)
def test_resumed_equals_whole(name, workers, data, tmp_path, monkeypatch):
    leaf, changes, stop, first = TASKS[name]
    monkeypatch.chdir(data)
    changes = {f'{LOADER}.num_workers': workers, **changes}
    whole, observed = train(config(leaf, changes, tmp_path / 'whole'))
    train(config(leaf, changes, tmp_path / 'part'), stop=stop)
    resumed, repeated = train(config(leaf, changes, tmp_path / 'part', resume='auto'))
    assert sorted(repeated.losses) == list(range(first, whole.max_iters))
    assert repeated.losses == {step: observed.losses[step] for step in repeated.losses}
    for key, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[key]), key
    assert repeated.validated == observed.validated[-len(repeated.validated) :]
