"""Fine-tuning and the test on several views."""

import pytest
import torch
from mmengine.registry import MODELS

import comad.evaluation  # noqa: F401
import comad.methods  # noqa: F401
from backbones import CheckpointError
from comad.evaluation.features import pooled_features
from comad.evaluation.layer_decay import LayerWiseDecayConstructor
from tests.video import reference

SHAPE = dict(
    arch='sample_video_small',
    patch_size=16,
    img_size=32,
    frames=4,
    embed_dim=32,
    depth=2,
    num_heads=2,
)


def build(**options):
    backbone = dict(type='MaskedVideoViT', **SHAPE)
    options = {'num_classes': 5, **options}
    return MODELS.build(dict(type='VideoClassifier', backbone=backbone, **options))


@torch.no_grad()
def test_scores_are_those_of_the_official_file(tmp_path):
    tensors = reference.draw(reference.finetuned_shapes(32, 2, 5))
    path = tmp_path / 'a.pth'
    torch.save({'module': {k: v.float() for k, v in tensors.items()}}, path)
    model = build(official=str(path)).double().eval()
    tensors = {k: v.float().double() for k, v in tensors.items()}
    clips = torch.randn(2, 3, 4, 32, 32, dtype=torch.float64)
    for clip, found in zip(clips, model(clips), strict=True):
        raw = reference.encode(clip, range(8), tensors, 2, prefix='')[-1].mean(0)
        expected = reference.norm(raw, tensors, 'fc_norm') @ tensors['head.weight'].T
        torch.testing.assert_close(found, expected + tensors['head.bias'], rtol=1e-9, atol=1e-12)
    with pytest.raises(CheckpointError, match='head.weight is .5, 32., the network has .4, 32'):
        build(official=str(path), num_classes=4)
    torch.save({'model': {'encoder.' + k: v for k, v in tensors.items()}}, path)
    with pytest.raises(CheckpointError, match='no head'):
        torch.save({'model': reference.draw(reference.pretraining_shapes(32, 2, 16, 1))}, path)
        build(official=str(path))


@torch.no_grad()
def test_probabilities_of_views_are_averaged():
    model = build(frozen_frame=True).eval()
    model.head.weight.normal_()
    views = torch.randn(2, 3, 3, 4, 32, 32)
    found = model(views, torch.tensor([1, 4]), mode='predict')
    for video, sample in zip(views, found, strict=True):
        each = torch.stack([model(view[None])[0].softmax(0) for view in video])
        torch.testing.assert_close(sample['scores']['mean'], each.mean(0))
        still = video[:, :, 2:3].repeat(1, 1, 4, 1, 1)
        each = torch.stack([model(view[None])[0].softmax(0) for view in still])
        torch.testing.assert_close(sample['scores']['frozen'], each.mean(0))
    assert [int(sample['label']) for sample in found] == [1, 4]
    assert set(build()(views, torch.tensor([0, 0]), mode='predict')[0]['scores']) == {'mean'}


@torch.no_grad()
def test_features_of_views_are_averaged():
    probe = MODELS.build(
        dict(
            type='LinearProbe',
            backbone=dict(type='MaskedVideoViT', **SHAPE),
            num_classes=5,
            pools=('mean',),
        )
    ).eval()
    views = torch.randn(2, 3, 3, 4, 32, 32)
    found = probe(views)['mean']
    for video, scores in zip(views, found, strict=True):
        each = torch.stack([probe.backbone.tokens(view[None])[0].mean(0) for view in video])
        expected = probe.heads['mean'](each.mean(0, keepdim=True))[0]
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match='pool cls: MaskedVideoViT has mean'):
        pooled_features(probe.backbone, views, ('cls',))


def test_cutmix_has_one_box_for_all_frames():
    model = build(mixup=dict(mixup_alpha=0.0, cutmix_alpha=1.0, mode='batch'))
    seen = []
    model._scores = lambda clips: seen.append(clips) or torch.zeros(2, 5, requires_grad=True)
    clips = torch.zeros(2, 3, 4, 32, 32)
    clips[1] = 1.0
    torch.manual_seed(0)
    model(clips, torch.tensor([0, 3]), mode='loss')
    (mixed,) = seen
    box = mixed[0] != 0
    assert box.any() and not box.all() and (box == box[:1, :1]).all()


def test_the_head_starts_small_and_layers_have_their_rates():
    model = build(head_scale=0.001)
    assert 1e-5 < float(model.head.weight.detach().std()) < 3e-5  # 0.001 x 0.02
    config = dict(optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05))
    groups = LayerWiseDecayConstructor(config, dict(decay_rate=0.75)).groups(model)
    rates = {id(p): group['lr'] for group in groups for p in group['params']}
    named = dict(model.named_parameters())

    def rate(name):
        return rates[id(named[name])]

    # 0.75^(L + 1 - i), i = 0 for the embedding, 1 ... L for the blocks, L + 1 for norm and head.
    assert rate('backbone.patch_embed.proj.weight') == pytest.approx(1e-3 * 0.75**3)
    assert rate('backbone.blocks.0.mlp.fc1.weight') == pytest.approx(1e-3 * 0.75**2)
    assert rate('backbone.blocks.1.mlp.fc1.weight') == pytest.approx(1e-3 * 0.75)
    assert rate('head.weight') == rate('fc_norm.weight') == 1e-3


def test_mask_tokens_do_not_decay_where_videomae_says_so():
    model = MODELS.build(
        dict(
            type='VideoMAE',
            backbone=dict(type='MaskedVideoViT', **SHAPE),
            mask_ratio=0.5,
            decoder=dict(arch='sample_video_small'),
        )
    )
    config = dict(optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.05))
    token = model.decoder.mask_token
    for factor in (1.0, 0.0):
        options = dict(mask_token_decay_mult=factor)
        groups = LayerWiseDecayConstructor(config, options).groups(model)
        decays = {id(p): group['weight_decay'] for group in groups for p in group['params']}
        assert decays[id(token)] == 0.05 * factor
        assert decays[id(model.decoder.head.weight)] == 0.05
        assert decays[id(model.decoder.head.bias)] == 0


def test_every_parameter_that_trains_has_a_gradient():
    model = build(mixup=dict(mixup_alpha=0.8, cutmix_alpha=1.0), label_smoothing=0.1)
    model(torch.randn(2, 3, 4, 32, 32), torch.tensor([0, 3]), mode='loss')['loss_class'].backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (not name.startswith('backbone.norm')), name
