import math

import pytest
import torch
from mmengine.logging import MessageHub

from comad.methods import mocov3
from comad.methods.mocov3 import contrastive_loss
from comad.methods.parts.positions import sincos_positions

HEAD = dict(hidden_dim=32, out_dim=16)


def loop_loss(queries, keys, positives, temperature):
    total = 0.0
    for q, positive in zip(queries.double().tolist(), positives, strict=True):
        cosines = []
        for k in keys.double().tolist():
            dot = sum(a * b for a, b in zip(q, k, strict=True))
            cosines.append(dot / math.hypot(*q) / math.hypot(*k))
        exps = [math.exp(c / temperature) for c in cosines]
        total -= math.log(exps[positive] / sum(exps))
    return 2 * temperature * total / len(queries)


def test_infonce_equals_the_loop():
    queries, keys = torch.randn(5, 7), torch.randn(5, 7)
    loss = contrastive_loss(queries, keys, 0.2)
    assert float(loss) == pytest.approx(loop_loss(queries, keys, range(5), 0.2), rel=1e-5)


def test_negatives_come_from_all_processes(monkeypatch):
    """Seen from the second of two processes, whose positives are the second half of the keys."""
    queries, keys, foreign = torch.randn(4, 6), torch.randn(4, 6), torch.randn(4, 6)
    unit = torch.nn.functional.normalize(foreign, dim=1)
    monkeypatch.setattr(mocov3, 'get_world_size', lambda: 2)
    monkeypatch.setattr(mocov3, 'get_rank', lambda: 1)
    monkeypatch.setattr(mocov3, 'all_gather', lambda x: [unit, x])
    loss = contrastive_loss(queries, keys, 0.2)
    expected = loop_loss(queries, torch.cat([foreign, keys]), range(4, 8), 0.2)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_step_crosses_the_views(build, images):
    model = build('MoCoV3', head=HEAD).train()
    other = torch.randn_like(images)
    losses = model([images, other])
    tokens = [model.backbone.tokens(x)[:, 0] for x in (images, other)]
    q = [model.predictor(model.projector(x)) for x in tokens]
    with torch.no_grad():
        k = [
            model.momentum_projector(model.momentum_encoder.tokens(x)[:, 0])
            for x in (images, other)
        ]
    for name, i, j in (('loss_view1', 0, 1), ('loss_view2', 1, 0)):
        expected = loop_loss(q[i].detach(), k[j], range(6), 0.2)
        assert float(losses[name]) == pytest.approx(expected, rel=1e-3)


def test_patch_embedding_and_positions_are_frozen_and_keys_get_no_gradient(build, images):
    model = build('MoCoV3', head=HEAD)
    losses = model([images, images + 0.1])
    (losses['loss_view1'] + losses['loss_view2']).backward()
    frozen = {name for name, p in model.named_parameters() if p.grad is None}
    student = {'pos_embed', 'patch_embed.proj.weight', 'patch_embed.proj.bias'}
    momentum = {name for name, _ in model.named_parameters() if name.startswith('momentum_')}
    assert frozen == {f'backbone.{name}' for name in student} | momentum
    assert torch.equal(model.backbone.pos_embed, sincos_positions(32, 4, 'h'))
    bound = math.sqrt(6 / (3 * 64 + 32))
    weight = model.backbone.patch_embed.proj.weight
    assert bound * 0.95 < weight.abs().max() <= bound


@pytest.mark.parametrize('done,momentum', [(0, 0.99), (50, 0.995), (100, 1.0)])
def test_key_momentum_rises_along_a_cosine(build, done, momentum):
    hub = MessageHub.get_current_instance()
    hub.update_info('max_iters', 100), hub.update_info('iter', done)
    try:
        assert build('MoCoV3', head=HEAD).key_momentum() == pytest.approx(momentum)
    finally:
        hub.pop_info('max_iters'), hub.pop_info('iter')


def test_key_encoder_follows_the_student(build, images):
    model = build('MoCoV3', head=HEAD)
    with torch.no_grad():
        model.backbone.norm.bias += 1
    model([images, images])
    assert torch.allclose(model.momentum_encoder.norm.bias, torch.full((32,), 0.01), atol=1e-6)


def test_official_checkpoint_has_the_official_names(build, official_names):
    name, content = build('MoCoV3', dict(arch='sample_base'), head=HEAD).official_checkpoint()
    assert name == 'vit-b-300ep.pth.tar'
    assert content['arch'] == 'vit_base' and isinstance(content['epoch'], int)
    norm = ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
    head = {'0.weight', '3.weight', '6.weight'} | {f'{i}.{n}' for i in (1, 4) for n in norm}
    head |= {f'7.{n}' for n in norm[2:]}
    predictor = {'0.weight', '3.weight'} | {f'1.{n}' for n in norm} | {f'4.{n}' for n in norm[2:]}
    encoder = official_names | {f'head.{n}' for n in head}
    expected = {f'module.{e}.{n}' for e in ('base_encoder', 'momentum_encoder') for n in encoder}
    assert set(content['state_dict']) == expected | {f'module.predictor.{n}' for n in predictor}


def test_unknown_head_keys_are_named(build):
    with pytest.raises(ValueError, match='hidden'):
        build('MoCoV3', head=dict(hidden=3))
