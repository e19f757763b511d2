"""Alignments that see no data or are trained: what they map, what trains them, what is saved."""

import pytest
import torch
from mmengine.logging import MMLogger

from comad.methods.parts.alignment import (
    ALIGNMENTS,
    JointAlignment,
    OrthogonalAlignment,
    ReconstructAlignment,
    semi_orthogonal,
)

DIMS, WIDTH = (40, 32, 12), 16


def draw():
    return [torch.randn(5, 7, dim) + 1 for dim in DIMS]


@pytest.mark.parametrize('kind', ['orthogonal', 'reconstruct', 'joint'])
def test_output_is_normalised_and_of_the_students_width(kind):
    alignment = ALIGNMENTS[kind](DIMS, WIDTH)
    assert not alignment.needs_fit
    for x in alignment(draw()):
        assert x.shape == (5, 7, WIDTH) and x.dtype == torch.float32
        assert torch.allclose(x.mean(-1), torch.zeros(5, 7), atol=1e-5)
        assert torch.allclose(x.std(-1, unbiased=False), torch.ones(5, 7), atol=1e-3)


@pytest.mark.parametrize('shape', [(12, 5), (5, 12), (6, 6)])
def test_semi_orthogonal_maps_keep_lengths_of_the_narrower_side(shape):
    q = semi_orthogonal(*shape, seed=3)
    narrow = q.T @ q if shape[0] >= shape[1] else q @ q.T
    assert torch.allclose(narrow, torch.eye(min(shape)), atol=1e-5)
    torch.rand(3)
    assert torch.equal(q, semi_orthogonal(*shape, seed=3))
    assert not torch.equal(q, semi_orthogonal(*shape, seed=4))


def test_orthogonal_needs_no_data_and_has_nothing_to_train():
    alignment = OrthogonalAlignment(DIMS, WIDTH)
    assert alignment.fitted and not list(alignment.parameters()) and not alignment.losses(draw())
    assert not torch.equal(alignment.map_0[:12], alignment.map_2)


def test_reconstruction_trains_the_maps_and_nothing_else_does():
    alignment, tokens = ReconstructAlignment(DIMS, WIDTH), draw()
    assert not any(x.requires_grad for x in alignment(tokens))
    alignment.losses(tokens)['loss_align'].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in alignment.parameters())


def test_reconstruction_loss_equals_the_loop_in_float64():
    alignment, tokens = ReconstructAlignment(DIMS, WIDTH), draw()
    terms = []
    for k, x in enumerate(tokens):
        x = x.double()
        a = x @ alignment.adapters[k].weight.double().T + alignment.adapters[k].bias.double()
        a = (a - a.mean(-1, keepdim=True)) / (a.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
        u = alignment.rebuilders[k]
        error = a @ u.weight.double().T + u.bias.double() - x
        squares = [float(value) ** 2 for value in error.flatten().detach()]
        terms.append(sum(squares) / len(squares))
    loss = float(alignment.losses(tokens)['loss_align'].detach())
    assert loss == pytest.approx(sum(terms) / 3, rel=1e-5)


def test_reconstruction_learns_to_rebuild_what_fits_into_the_width():
    basis = [torch.randn(8, dim) for dim in DIMS]
    alignment = ReconstructAlignment(DIMS, WIDTH)
    optimizer = torch.optim.Adam(alignment.parameters(), lr=1e-2)
    history = []
    for _ in range(150):
        causes = torch.nn.functional.layer_norm(torch.randn(64, 8), (8,))
        loss = alignment.losses([causes @ b for b in basis])['loss_align']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.2 * history[0]


def test_joint_warns_once_built_and_passes_the_gradient(monkeypatch):
    lines = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'warning', lines.append)
    alignment = JointAlignment(DIMS, WIDTH)
    assert len(lines) == 1 and 'target_rank' in lines[0]
    sum(x.square().sum(-1)[..., :1].sum() + x[..., 0].sum() for x in alignment(draw())).backward()
    assert all(p.grad is not None for p in alignment.parameters())


@pytest.mark.parametrize('align', ALIGNMENTS)
def test_only_the_losses_meant_for_it_train_an_alignment(build_comad, images, align):
    model = build_comad(align=align, cls_weight=1.0)
    losses = model(images)
    (losses['loss_token'] + losses['loss_map'] + losses['loss_cls']).backward(retain_graph=True)
    adapters = list(model.alignment.parameters()) + list(model.cls_alignment.parameters())
    reached = [p for p in adapters if p.grad is not None]
    assert reached == (adapters if align == 'joint' else [])
    assert ('loss_align' in losses) == ('loss_align_cls' in losses) == (align == 'reconstruct')
    before = {n: p.grad.clone() for n, p in model.backbone.named_parameters() if p.grad is not None}
    if align == 'reconstruct':
        (losses['loss_align'] + losses['loss_align_cls']).backward()
        assert all(p.grad is not None for p in adapters)
        after = dict(model.backbone.named_parameters())
        assert all(torch.equal(g, after[n].grad) for n, g in before.items())
    assert not any(p.grad is not None for p in model.teacher_networks.parameters())


@pytest.mark.parametrize('align', ALIGNMENTS)
def test_a_checkpoint_brings_the_alignment_back_without_a_fit(
    build_comad, build, teachers, images, align
):
    model = build_comad(align=align)
    fresh = build('CoMAD', teachers=teachers, decoder=dict(arch='sample_tiny'), align=align)
    fresh.load_state_dict(model.state_dict())
    torch.manual_seed(1)
    expected = model(images)
    torch.manual_seed(1)
    found = fresh(images)
    for name in ('loss_token', 'loss_map'):
        assert torch.equal(found[name], expected[name])


@pytest.mark.parametrize('align', ['reconstruct', 'joint'])
def test_adapters_are_trained_parameters_that_the_student_does_not_hold(build_comad, align):
    model = build_comad(align=align)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert any(name.startswith('alignment.adapters') for name in trained)
    assert not any('adapters' in name for name in model.exported.state_dict())
