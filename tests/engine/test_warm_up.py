"""Learning rates of every recipe, step by step, against the formulas of the official codes."""

import math

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

import comad.engine.register  # noqa: F401
from tests.resolved import resolved_config


def rates(leaf, steps_per_epoch=None):
    """The rate of every step as a share of the peak's, from the schedulers that a run builds."""
    cfg = resolved_config(leaf)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    wrapper = OptimWrapper(optimizer)
    epochs = cfg.train_cfg.get('max_epochs')
    schedulers = []
    for entry in cfg.param_scheduler:
        entry.setdefault('end', epochs or cfg.train_cfg.max_iters)
        built = PARAM_SCHEDULERS.build(
            entry, default_args=dict(optimizer=wrapper, epoch_length=steps_per_epoch)
        )
        schedulers.append(built)
    found = []
    for _ in range(epochs * steps_per_epoch if epochs else cfg.train_cfg.max_iters):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return np.array(found)


def mae(step, length, warm, total, floor):
    """MAE's rate by fractional epochs; those of MoCo v3 and MAE-Lite are the same."""
    epoch = step / length
    if epoch < warm:
        return epoch / warm
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (epoch - warm) / (total - warm)))


LENGTH = 23
LIKE_MAE = {
    # leaf: warm-up, epochs, floor as a share of the peak
    'pretrain_configs/mae_tiny.py': (40, 300, 0.0),
    'pretrain_configs/mae_base.py': (40, 1600, 0.0),
    'pretrain_configs/mocov3_tiny.py': (40, 300, 0.0),
    'pretrain_configs/mocov3_base.py': (40, 300, 0.0),
    'pretrain_configs/d_mae_lite_tiny.py': (40, 300, 0.0),
    'pretrain_configs/comad_tiny.py': (15, 300, 0.0),
    'cls_configs/linear_comad_tiny.py': (10, 90, 0.0),
    'cls_configs/finetune_comad_tiny.py': (5, 300, 1e-6 / 4e-3),
    'cls_configs/mae_finetune_comad_tiny.py': (5, 100, 1e-6 / 2e-3),
    'cls_configs/tinymim_finetune_comad_tiny.py': (5, 100, 1e-6 / 2e-3),
}


@pytest.mark.parametrize('leaf', LIKE_MAE)
def test_rates_from_zero_with_the_peak_after_the_warm_up(leaf):
    warm, total, floor = LIKE_MAE[leaf]
    wanted = [mae(step, LENGTH, warm, total, floor) for step in range(total * LENGTH)]
    found = rates(leaf, LENGTH)
    assert found[0] == 0 and found.argmax() == warm * LENGTH
    assert found == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(
    ('leaf', 'warm', 'total', 'floor'),
    [
        ('pretrain_configs/ibot_tiny.py', 10, 300, 1e-6 / 2e-3),
        ('pretrain_configs/ibot_base.py', 10, 400, 2e-6 / 3e-3),
        ('cls_configs/ibot_finetune_comad_tiny.py', 20, 100, 1e-6 / 4e-3),
    ],
)
def test_rates_of_dinos_and_beits_cosine_scheduler(leaf, warm, total, floor):
    rest = np.arange((total - warm) * LENGTH)
    cosine = floor + 0.5 * (1 - floor) * (1 + np.cos(np.pi * rest / len(rest)))
    wanted = np.concatenate([np.linspace(0, 1, warm * LENGTH), cosine])
    assert rates(leaf, LENGTH) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize('kind', ['upernet', 'tinymim_upernet', 'ibot_seg_linear'])
def test_rates_of_mmcv_1(kind):
    """``poly`` over all iterations, times 1 - (1 - i / 1500)(1 - 1e-6) in the first 1500."""
    step = np.arange(160_000)
    wanted = 1 - step / 160_000
    wanted[:1500] *= 1 - (1 - step[:1500] / 1500) * (1 - 1e-6)
    found = rates(f'seg_configs/{kind}_comad_tiny.py')
    assert found[0] == pytest.approx(1e-6, rel=1e-9)
    # MMEngine's PolyLR reaches 0 in the last step, mmcv's one step later: 1 / 160000 of the peak.
    assert found == pytest.approx(wanted, abs=6.3e-6)


@pytest.mark.parametrize(
    ('kind', 'first', 'second', 'length'),
    [
        ('mask_rcnn', 163_889, 177_546, 184_375),
        ('mae_lite_mask_rcnn', int(184_375 * 24 / 27), int(184_375 * 26 / 27), 184_375),
        ('mask_rcnn_1x', 58_633, 80_620, 87_950),
    ],
)
def test_rates_of_detectron2(kind, first, second, length):
    """Linear from 0.001 over the first 250 steps, which 250 is the first to leave."""
    step = np.arange(length)
    wanted = np.where(step < 250, 0.001 + 0.999 * step / 250, 1.0)
    wanted *= np.where(step >= second, 0.01, np.where(step >= first, 0.1, 1.0))
    assert rates(f'det_configs/{kind}_comad_tiny.py') == pytest.approx(wanted, abs=1e-9)


def test_a_resumed_warm_up_goes_on():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    build = PARAM_SCHEDULERS.get('WarmUpLR')
    scheduler = build(optimizer, end=8, by_epoch=False)
    for step in range(3):
        assert optimizer.param_groups[0]['lr'] == pytest.approx(step / 8)
        optimizer.step(), scheduler.step()
    again = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    resumed = build(again, end=8, by_epoch=False)
    again.load_state_dict(optimizer.state_dict()), resumed.load_state_dict(scheduler.state_dict())
    for step in range(3, 12):
        assert again.param_groups[0]['lr'] == pytest.approx(min(1, step / 8))
        again.step(), resumed.step()
