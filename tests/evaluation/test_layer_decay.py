"""Layer-wise learning rates against values computed by hand from the papers' rule."""

import pytest
import torch
from mmengine.optim import CosineAnnealingLR, LinearLR, build_optim_wrapper
from torch import nn

from backbones import MaskedViT
from comad.evaluation.layer_decay import LayerWiseDecayConstructor, is_norm


class Model(nn.Module):
    """A 12-block backbone with the parts that transfers add: a neck, a norm, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = MaskedViT(img_size=32, embed_dim=12, num_heads=3)
        self.neck = nn.Conv2d(12, 4, 1)
        self.fc_norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 5)


def build(model: nn.Module, lr: float = 0.1, weight_decay: float = 0.05, **paramwise_cfg):
    return build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            optimizer=dict(type='AdamW', lr=lr, weight_decay=weight_decay),
            constructor='LayerWiseDecayConstructor',
            paramwise_cfg=paramwise_cfg,
        ),
    )


def by_name(model: nn.Module, wrapper) -> dict[str, dict]:
    owner = {id(p): g for g in wrapper.param_groups for p in g['params']}
    return {name: owner[id(p)] for name, p in model.named_parameters() if id(p) in owner}


# rate: scale of the input layer (rate^13), of blocks 0 (rate^12), 6 (rate^6) and 11 (rate^1).
RECIPES = {
    'MAE-Lite fine-tune': (0.85, (0.1209055, 0.1422418, 0.3771495, 0.85)),
    'MAE and iBOT ViT-B fine-tune, UperNet': (0.65, (0.003697206, 0.005688009, 0.07541889, 0.65)),
    'ViTDet': (0.7, (0.009688901, 0.01384129, 0.117649, 0.7)),
    'pretraining': (1.0, (1.0, 1.0, 1.0, 1.0)),
}


@pytest.mark.parametrize('recipe', RECIPES)
def test_scale_of_every_layer(recipe):
    rate, (first, block0, block6, block11) = RECIPES[recipe]
    model = Model()
    groups = by_name(model, build(model, lr=0.1, decay_rate=rate))
    expected = {
        'backbone.patch_embed.proj.weight': first,
        'backbone.patch_embed.proj.bias': first,
        'backbone.cls_token': first,
        'backbone.pos_embed': first,
        'backbone.blocks.0.attn.qkv.weight': block0,
        'backbone.blocks.6.norm1.bias': block6,
        'backbone.blocks.11.mlp.fc2.weight': block11,
        'backbone.norm.weight': 1.0,
        'neck.weight': 1.0,
        'fc_norm.weight': 1.0,
        'head.bias': 1.0,
    }
    for name, scale in expected.items():
        assert groups[name]['lr'] == pytest.approx(0.1 * scale, rel=1e-6), name
        assert groups[name]['lr_scale'] == pytest.approx(scale, rel=1e-6), name


MAE = dict()
MAE_PRETRAIN = dict(cls_token_decay_mult=1.0)
VITDET = dict(bias_decay_mult=1.0)


@pytest.mark.parametrize(
    ('name', 'mae', 'mae_pretrain', 'vitdet'),
    [
        ('backbone.blocks.3.attn.qkv.weight', 1, 1, 1),
        ('backbone.patch_embed.proj.weight', 1, 1, 1),
        ('head.weight', 1, 1, 1),
        ('backbone.blocks.3.attn.qkv.bias', 0, 0, 1),
        ('neck.bias', 0, 0, 1),
        ('backbone.blocks.3.norm2.weight', 0, 0, 0),
        ('backbone.blocks.3.norm2.bias', 0, 0, 0),
        ('fc_norm.bias', 0, 0, 0),
        ('backbone.pos_embed', 0, 0, 0),
        ('backbone.cls_token', 0, 1, 0),
    ],
)
def test_weight_decay_exemptions(name, mae, mae_pretrain, vitdet):
    model = Model()
    for options, factor in ((MAE, mae), (MAE_PRETRAIN, mae_pretrain), (VITDET, vitdet)):
        assert by_name(model, build(model, **options))[name]['weight_decay'] == 0.05 * factor


def test_groups_are_few_and_hold_every_parameter_once():
    model = Model()
    wrapper = build(model, decay_rate=0.85)
    groups = wrapper.optimizer.param_groups
    assert len(groups) == 28  # 14 layers, decayed and exempt
    assert len(build(model).optimizer.param_groups) == 2
    held = [id(p) for group in groups for p in group['params']]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


def test_frozen_parameters_get_no_group():
    model = Model()
    model.backbone.requires_grad_(False)
    assert set(by_name(model, build(model))) == {
        'neck.weight',
        'neck.bias',
        'fc_norm.weight',
        'fc_norm.bias',
        'head.weight',
        'head.bias',
    }


def test_schedulers_keep_the_scale_and_end_at_the_ratio():
    model = Model()
    wrapper = build(model, lr=1e-4, decay_rate=0.65)
    initial = [group['lr'] for group in wrapper.param_groups]
    assert min(initial) < 1e-6  # where an absolute eta_min of 1e-6 would raise the rate
    warm_up = LinearLR(wrapper, start_factor=0.001, begin=0, end=4, by_epoch=False)
    # T_max is one short of the length: MMEngine makes no update at `end` itself.
    cosine = CosineAnnealingLR(
        wrapper, T_max=9, begin=4, end=14, by_epoch=False, eta_min_ratio=0.01
    )
    for step in range(14):
        rates = [group['lr'] for group in wrapper.param_groups]
        scaled = [rate / start for rate, start in zip(rates, initial, strict=True)]
        assert max(scaled) == pytest.approx(min(scaled), rel=1e-9), step
        assert max(scaled) <= 1 + 1e-9
        wrapper.optimizer.step()
        warm_up.step()
        cosine.step()
    final = [group['lr'] for group in wrapper.param_groups]
    assert final == pytest.approx([0.01 * start for start in initial], rel=1e-6)


def test_wrapped_model_gets_the_same_groups():
    model = Model()
    wrapped = build(nn.DataParallel(model), decay_rate=0.85)
    assert by_name(model, wrapped)['backbone.cls_token']['lr_scale'] == pytest.approx(0.85**13)


@pytest.mark.parametrize(
    ('paramwise_cfg', 'message'),
    [
        (dict(layer_decay_rate=0.75), 'layer_decay_rate'),
        (dict(num_layers=12, decay_rate=0.75), 'num_layers'),
        (dict(decay_rate=0.0), r'decay_rate 0\.0'),
        (dict(decay_rate=1.2), r'decay_rate 1\.2'),
        (dict(norm_decay_mult=-1.0), 'norm_decay_mult'),
    ],
)
def test_wrong_arguments_are_refused(paramwise_cfg, message):
    with pytest.raises(ValueError, match=message):
        LayerWiseDecayConstructor(dict(optimizer=dict(type='SGD', lr=1.0)), paramwise_cfg)


def test_decay_without_blocks_is_refused():
    with pytest.raises(ValueError, match='backbone.blocks.N'):
        build(nn.Sequential(nn.Linear(2, 2)), decay_rate=0.75)


def test_norms_known_only_by_name():
    class LN2d(nn.Module):
        pass

    assert is_norm(LN2d()) and is_norm(nn.SyncBatchNorm(2)) and is_norm(nn.GroupNorm(1, 2))
    assert not is_norm(nn.Linear(2, 2)) and not is_norm(nn.Identity())


def test_optimizer_step_moves_layers_by_their_scale():
    """SGD with unit gradients moves each tensor by exactly its learning rate."""
    model = Model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            optimizer=dict(type='SGD', lr=0.5),
            constructor='LayerWiseDecayConstructor',
            paramwise_cfg=dict(decay_rate=0.5),
        ),
    )
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    wrapper.step()
    moved = {name: (before[name] - p).mean().item() for name, p in model.named_parameters()}
    assert moved['head.weight'] == pytest.approx(0.5, rel=1e-4)
    assert moved['backbone.blocks.10.attn.proj.weight'] == pytest.approx(0.125, rel=1e-4)
