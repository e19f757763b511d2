"""The run record's hook: which checkpoint was evaluated, and what the backbone costs."""

import logging
from types import SimpleNamespace

import pytest

from backbones import MaskedViT
from comad.engine.checkpointing import SafeCheckpointHook
from comad.engine.hooks.record import RunRecordHook, _gflops
from tests.benchmark.analytic import vit_gflop

LOGGER = logging.getLogger('record')


def make_runner(saved_steps=90, train_cfg=(), load_from=None):
    saving = SafeCheckpointHook(interval=1)
    saving.saved_steps, saving.last_ckpt = saved_steps, 'run/epoch_9.pth'
    return SimpleNamespace(
        cfg={'train_cfg': train_cfg}, hooks=[saving], iter=90, _load_from=load_from, logger=LOGGER
    )


def test_the_checkpoint_of_the_last_step_is_the_one_that_was_evaluated():
    hook = RunRecordHook()
    assert str(hook._checkpoint(make_runner())) == 'run/epoch_9.pth'
    assert hook._checkpoint(make_runner(train_cfg=None)) is None


def test_weights_that_were_never_saved_are_in_no_checkpoint(caplog):
    with caplog.at_level('WARNING'):
        assert RunRecordHook()._checkpoint(make_runner(saved_steps=80)) is None
    assert 'in no checkpoint' in caplog.text


def test_a_test_tells_the_checkpoint_that_it_loaded():
    hook = RunRecordHook(of_test=True)
    hook.trained = {'train_seconds': 1.0}
    assert str(hook._checkpoint(make_runner(load_from='run/iter_5.pth'))) == 'run/iter_5.pth'


@pytest.mark.parametrize(
    ('kind', 'pipeline', 'grid'),
    [('upernet', ('RandomCrop', 'crop_size', (64, 64)), 8 * 8), ('mask_rcnn', None, None)],
)
def test_cost_at_the_protocols_resolution_or_a_warning(caplog, kind, pipeline, grid):
    network = MaskedViT(img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=2)
    steps = [{'type': pipeline[0], pipeline[1]: pipeline[2]}] if pipeline else []
    config = {'run': {'kind': kind}, 'train_dataloader': {'dataset': {'pipeline': steps}}}
    with caplog.at_level('WARNING'):
        found = _gflops(make_runner(), config, network)
    if grid is None:
        # Nothing tells the resolution: the record is written without the figure.
        assert found is None and 'cannot be counted' in caplog.text
    else:
        assert found == pytest.approx(vit_gflop(grid + 1, grid, 64, 2, patch_size=8), rel=1e-6)


def test_a_wide_image_is_counted_at_its_padded_size():
    network = MaskedViT(img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=2)
    resize = {'type': 'Resize', 'scale': (61, 40)}
    config = {
        'run': {'kind': 'mask_rcnn'},
        'val_dataloader': {'dataset': {'pipeline': [resize]}},
    }
    found = _gflops(make_runner(), config, network)
    assert found == pytest.approx(vit_gflop(41, 40, 64, 2, patch_size=8), rel=1e-6)
