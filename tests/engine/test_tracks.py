"""Tracks: what their overlays may change, and what a track has not."""

import re

import pytest

from comad.engine.options import ConfigError, RunOptions
from comad.engine.run_config import load_run_config
from comad.tasks.task import get_task


def load(path: str, **options):
    """A resolved config as if all data, teachers and students were there."""
    return load_run_config(RunOptions(path, **options), check=False)


# What a track may change: which data are read and how much of them at once, lengths, rates.
OF_A_TRACK = re.compile(
    r'.*dataloader\.(batch_size|num_workers|dataset\.(type|root|classes))|.*\.num_classes'
    r'|.*dataset\.pipeline|model\.data_preprocessor\.pad_size_divisor|auto_scale_lr\.\w+'
    r'|train_cfg\.(max_epochs|max_iters|val_interval|cached_passes)|param_scheduler|.*optimizer\.lr'
    r'|default_hooks\.checkpoint\.interval|model\.freeze_prototypes|model\.backbone\.init_cfg\.\w+'
    r'|(run|work_dir).*'
)


def test_a_track_changes_data_sizes_lengths_and_rates_alone():
    """All but the sample's, which has networks of its own."""
    tried = ('pretrain_configs/comad_tiny.py', 'pretrain_configs/ibot_tiny.py')
    tried += tuple(get_task(kind).leaf('comad_tiny') for kind in ('linear', 'knn', 'finetune'))
    dense = tuple(get_task(kind).leaf('comad_tiny') for kind in ('upernet', 'mask_rcnn'))
    for track, leaves_of in (('overnight', tried + dense), ('cifar100', tried)):
        for leaf in leaves_of:
            full, other = flat(load(leaf)), flat(load(leaf, track=track))
            changed = {key for key in full.keys() | other.keys() if full.get(key) != other.get(key)}
            assert not [key for key in changed if not OF_A_TRACK.fullmatch(key)], (track, leaf)
            assert other['run.track'] == track and other['work_dir'].startswith(
                f'work_dirs/{track}/'
            )


def flat(node, key=''):
    """Every entry that is no dictionary, by its dotted key."""
    if not hasattr(node, 'items'):
        return {key: node}
    return {k: v for name in node for k, v in flat(node[name], f'{key}.{name}'.strip('.')).items()}


@pytest.mark.parametrize(
    ('leaf', 'reason'),
    [
        ('det_configs/mask_rcnn_comad_tiny.py', r'has no mask_rcnn \(.*cifar100/det.py\)'),
        ('cls_configs/lowshot_1pct_comad_tiny.py', 'has no lowshot_1pct'),
    ],
)
def test_what_a_track_has_not_is_said(leaf, reason):
    with pytest.raises(ConfigError, match=reason):
        load(leaf, track='cifar100')
