"""Learning-rate scale and weight decay of every dense recipe's full-scale model.

The expected numbers are written out, not computed: rate^13 for the input, rate^12, rate^7 and
rate^1 for blocks 0, 5 and 11.
"""

import pytest
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS, DefaultScope

import comad.engine.register  # noqa: F401
from backbones.pyramid import LayerNorm2d
from tests.resolved import resolved_config


def groups_of(leaf):
    """Name -> learning rate, its scale and weight decay of every trained tensor; and the model."""
    cfg = resolved_config(leaf)
    cfg.model.backbone.init_cfg = None
    cfg.model.backbone.rel_pos = cfg.default_scope == 'mmdet'
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        constructor = OPTIM_WRAPPER_CONSTRUCTORS.get(cfg.optim_wrapper.pop('constructor'))
        paramwise = cfg.optim_wrapper.pop('paramwise_cfg')
        wrapper = constructor(cfg.optim_wrapper, paramwise)(model)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {
        names[id(p)]: (group['lr'], group['lr_scale'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for p in group['params']
    }
    assert set(found) == {name for name, p in model.named_parameters() if p.requires_grad}
    return found, model


# lr, then the scales of the input, block 0, block 5 and block 11.
SEGMENTATION = {
    'upernet': (1e-4, (0.003697206, 0.005688009, 0.04902228, 0.65)),
    'tinymim_upernet': (1e-4, (0.05497558, 0.06871948, 0.2097152, 0.8)),
}
DETECTION = {
    'mask_rcnn': (1e-4, (0.009688901, 0.01384129, 0.0823543, 0.7)),
    'mae_lite_mask_rcnn': (1e-4, (1.0, 1.0, 1.0, 1.0)),
    'mask_rcnn_1x': (1e-4, (1.0, 1.0, 1.0, 1.0)),
}


def check(found, rate, expected):
    for name, (scale, weight_decay) in expected.items():
        assert found[name][0] == pytest.approx(rate * scale, rel=1e-5), name
        assert found[name][1] == pytest.approx(scale, rel=1e-5), name
        assert found[name][2] == pytest.approx(weight_decay), name


@pytest.mark.parametrize('recipe', SEGMENTATION)
def test_segmentation_recipes(recipe):
    rate, (first, block0, block5, block11) = SEGMENTATION[recipe]
    found, _ = groups_of(f'seg_configs/{recipe}_comad_tiny.py')
    expected = {
        'backbone.patch_embed.proj.weight': (first, 0.05),
        'backbone.patch_embed.proj.bias': (first, 0.0),
        'backbone.pos_embed': (first, 0.0),
        'backbone.cls_token': (first, 0.0),
        'backbone.blocks.0.attn.qkv.weight': (block0, 0.05),
        'backbone.blocks.0.attn.qkv.bias': (block0, 0.0),
        'backbone.blocks.0.norm1.weight': (block0, 0.0),
        'backbone.blocks.5.mlp.fc1.weight': (block5, 0.05),
        'backbone.blocks.5.norm2.bias': (block5, 0.0),
        'backbone.blocks.11.mlp.fc2.weight': (block11, 0.05),
        'backbone.blocks.11.mlp.fc2.bias': (block11, 0.0),
        'neck.levels.0.0.weight': (1.0, 0.05),
        'neck.levels.0.1.weight': (1.0, 0.0),  # norm between the deconvolutions
        'decode_head.conv_seg.weight': (1.0, 0.05),
        'decode_head.conv_seg.bias': (1.0, 0.0),
        'decode_head.fpn_bottleneck.bn.weight': (1.0, 0.0),
        'auxiliary_head.convs.0.conv.weight': (1.0, 0.05),
    }
    check(found, rate, expected)
    assert 'backbone.norm.weight' not in found  # raw maps
    assert ('neck.levels.2.0.weight' in found) == (recipe == 'tinymim_upernet')


@pytest.mark.parametrize('recipe', DETECTION)
def test_detection_recipes(recipe):
    """ViTDet and MAE-Lite exempt norms and positions, and decay biases and relative positions.

    Detectron2's channel-first LayerNorm is none of the classes that its rule exempts: 34 tensors of
    pyramid, box head and mask head, 8,384 numbers, are decayed.
    """
    rate, (first, block0, block5, block11) = DETECTION[recipe]
    found, model = groups_of(f'det_configs/{recipe}_comad_tiny.py')
    modules = {name: m for name, m in model.named_modules() if isinstance(m, LayerNorm2d)}
    norms = {f'{name}.{leaf}': p for name, m in modules.items() for leaf, p in m.named_parameters()}
    assert (len(norms), sum(p.numel() for p in norms.values())) == (34, 8384)
    assert {found[name][2] for name in norms} == {0.05}
    expected = {
        'backbone.patch_embed.proj.weight': (first, 0.05),
        'backbone.patch_embed.proj.bias': (first, 0.05),
        'backbone.pos_embed': (first, 0.0),
        'backbone.blocks.0.attn.qkv.weight': (block0, 0.05),
        'backbone.blocks.0.attn.qkv.bias': (block0, 0.05),
        'backbone.blocks.0.attn.rel_pos_h': (block0, 0.05),
        'backbone.blocks.0.norm1.weight': (block0, 0.0),
        'backbone.blocks.5.attn.rel_pos_w': (block5, 0.05),
        'backbone.blocks.5.norm2.bias': (block5, 0.0),
        'backbone.blocks.11.mlp.fc2.weight': (block11, 0.05),
        'neck.levels.0.0.weight': (1.0, 0.05),
        'neck.levels.0.1.weight': (1.0, 0.05),
        'rpn_head.rpn_cls.bias': (1.0, 0.05),
        'roi_head.bbox_head.fc_cls.weight': (1.0, 0.05),
        'roi_head.mask_head.conv_logits.weight': (1.0, 0.05),
    }
    check(found, rate, expected)
    assert not {'backbone.cls_token', 'backbone.norm.weight'} & set(found)


def test_the_linear_head_trains_alone():
    """iBOT gives AdamW all trained tensors at once, so the bias is decayed too."""
    found, _ = groups_of('seg_configs/ibot_seg_linear_comad_tiny.py')
    assert set(found) == {'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias'}
    check(found, 8e-4, dict.fromkeys(found, (1.0, 0.05)))
