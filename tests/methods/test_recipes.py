"""The baselines' configs hold the numbers of the official recipes, and what is built keeps them."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS

import comad.engine.register  # noqa: F401
from comad.engine.run_config import parse_config
from comad.methods.ibot import HEADS

ROOT = Path(__file__).resolve().parents[2]


def recipe(name):
    return parse_config(ROOT / f'pretrain_configs/{name}.py')


def warmup_epochs(cfg):
    return cfg.param_scheduler[0].end


@pytest.mark.parametrize(
    ('name', 'gpus', 'batch', 'rate', 'decay', 'betas', 'warmup', 'epochs'),
    [
        ('mae_tiny', 8, 4096, 1.5e-4, 0.05, (0.9, 0.95), 40, 300),
        ('mae_base', 8, 4096, 1.5e-4, 0.05, (0.9, 0.95), 40, 1600),
        ('mocov3_tiny', 8, 4096, 1.5e-4, 0.1, (0.9, 0.999), 40, 300),
        ('mocov3_base', 64, 4096, 1.5e-4, 0.1, (0.9, 0.999), 40, 300),
        ('ibot_tiny', 8, 1024, 5e-4, 0.04, (0.9, 0.999), 10, 300),
        ('ibot_base', 64, 1024, 7.5e-4, 0.04, (0.9, 0.999), 10, 400),
        ('d_mae_lite_tiny', 8, 4096, 1.5e-4, 0.05, (0.9, 0.95), 40, 300),
        ('dmt_tiny', 8, 4096, 1.5e-4, 0.05, (0.9, 0.95), 15, 300),
    ],
)
def test_optimizer_and_lengths(name, gpus, batch, rate, decay, betas, warmup, epochs):
    cfg = recipe(name)
    optimizer = cfg.optim_wrapper.optimizer
    assert cfg.train_dataloader.batch_size * gpus == cfg.auto_scale_lr.base_batch_size == batch
    assert optimizer.lr == pytest.approx(rate * batch / 256)
    assert optimizer.weight_decay == decay and tuple(optimizer.betas) == betas
    assert warmup_epochs(cfg) == warmup and cfg.train_cfg.max_epochs == epochs
    assert cfg.train_dataloader.drop_last


def test_masks_heads_and_schedules_of_the_methods():
    mae, moco, ibot = (recipe(f'{name}_tiny') for name in ('mae', 'mocov3', 'ibot'))
    assert mae.model.mask_ratio == 0.75 and mae.model.norm_pix
    assert moco.model.temperature == 0.2 and moco.model.momentum == 0.99
    assert moco.sync_bn == 'torch'
    views = ibot.train_dataloader.dataset.views
    assert (views.num_local, tuple(views.scale)) == (10, (0.25, 1.0))
    assert tuple(ibot.model.mask_ratio) == (0.3, 0.2)
    start, end, share = ibot.model.teacher_temp
    assert (start, end) == (0.04, 0.07) and share * 300 == pytest.approx(30)
    assert ibot.model.freeze_prototypes * 300 == pytest.approx(1)
    base = recipe('ibot_base')
    assert base.model.freeze_prototypes * 400 == pytest.approx(3)
    floor = base.param_scheduler[1].eta_min_ratio * base.optim_wrapper.optimizer.lr
    assert floor == pytest.approx(2e-6)
    assert base.model.teacher_temp[2] * 400 == pytest.approx(50)
    assert {cfg.model.backbone.pos_interpolation for cfg in (base, ibot)} == {'bicubic_offset'}
    assert all(cfg.optim_wrapper.clip_grad.per_tensor for cfg in (base, ibot))
    lengths = {cfg.model.head.arch: HEADS[cfg.model.head.arch][-1] for cfg in (base, ibot)}
    assert lengths == {'base': True, 'tiny': False}  # norm_last_layer
    assert (
        base.optim_wrapper.clip_grad.max_norm == 0.3 and ibot.optim_wrapper.clip_grad.max_norm == 3
    )
    assert tuple(base.train_dataloader.dataset.views.local_scale) == (0.05, 0.32)


def test_d_mae_lite_follows_its_code():
    cfg = recipe('d_mae_lite_tiny')
    assert tuple(cfg.train_dataloader.dataset.views.scale) == (0.08, 1.0)
    assert cfg.optim_wrapper.paramwise_cfg.cls_token_decay_mult == 1.0
    assert cfg.model.decoder == dict(arch='tiny', width=96) and cfg.model.norm_pix
    (teacher,) = cfg.model.teachers
    assert (teacher.family, teacher.arch) == ('mae', 'base')
    assert set(cfg.protocol.deviations) == {'network', 'length', 'train_crop'}


def small(name):
    cfg = recipe(name)
    cfg.model.backbone.arch = 'sample_tiny'
    for part in ('decoder', 'head'):
        if part in cfg.model:
            cfg.model[part].arch = 'sample_tiny'
    model = MODELS.build(cfg.model)
    return cfg, model, build_optim_wrapper(model, cfg.optim_wrapper)


def decayed(model, wrapper):
    """Names of the parameters with weight decay, trained ones only."""
    names = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    return {
        names[id(p)]
        for group in wrapper.optimizer.param_groups
        for p in group['params']
        if group['weight_decay'] > 0 and id(p) in names
    }


@pytest.mark.parametrize('name', ['mae_tiny', 'mocov3_tiny', 'ibot_tiny'])
def test_weight_decay_falls_where_the_official_code_lets_it(name):
    _, model, wrapper = small(name)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if name == 'mocov3_tiny':
        expected = set(trained)
    else:
        expected = {n for n, p in trained.items() if p.ndim > 1 and not n.endswith('bias')}
    assert decayed(model, wrapper) == expected
    assert 'backbone.cls_token' in expected


def test_ibots_weight_decay_rises_to_0_4_where_there_is_any():
    cfg, _, wrapper = small('ibot_tiny')
    (config,) = [s for s in cfg.param_scheduler if s.type == 'CosineAnnealingParamScheduler']
    groups = wrapper.optimizer.param_groups
    free = [group['weight_decay'] == 0 for group in groups]
    scheduler = PARAM_SCHEDULERS.build(
        dict(config, end=3), default_args=dict(optimizer=wrapper, epoch_length=10)
    )
    seen = []
    for _ in range(30):
        seen.append(max(group['weight_decay'] for group in groups))
        wrapper.optimizer.step()
        scheduler.step()
    expected = [0.4 + (0.04 - 0.4) * (1 + math.cos(math.pi * t / 30)) / 2 for t in range(30)]
    assert seen == pytest.approx(expected, abs=1e-6)
    assert [group['weight_decay'] == 0 for group in groups] == free and any(free)


def test_mocov3s_patch_embedding_stays_random(monkeypatch):
    _, model, wrapper = small('mocov3_tiny')
    before = model.backbone.patch_embed.proj.weight.clone()
    views = [torch.randn(4, 3, 64, 64) for _ in range(2)]
    losses = model(views)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    wrapper.optimizer.step()
    assert torch.equal(before, model.backbone.patch_embed.proj.weight)
    shares = {}
    for progress in (0.0, 0.5, 1.0):
        monkeypatch.setattr(model, 'progress', lambda progress=progress: progress)
        shares[progress] = model.key_momentum()
    assert shares == pytest.approx({0.0: 0.99, 0.5: 0.995, 1.0: 1.0})
