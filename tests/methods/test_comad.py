from types import SimpleNamespace

import numpy as np
import pytest
import torch

from comad.methods.base import effective_rank, seeded
from comad.methods.parts.losses import map_kl, normalize, token_kl
from comad.methods.parts.masking import draw_masks


def total(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)


@pytest.mark.parametrize('masks', ['chain', 'student_subset'])
@pytest.mark.parametrize('gate', ['sum', 'uniform'])
def test_a_step_trains_student_and_decoder_and_nothing_else(build_comad, images, masks, gate):
    model = build_comad(masks=masks, gate=gate)
    before = [network.digest() for network in model.teacher_networks]
    losses = model(images)
    total(losses).backward()
    for name, parameter in model.named_parameters():
        fixed = name.startswith('teacher_networks') or name == 'backbone.pos_embed'
        assert (parameter.grad is None) == fixed, name
    assert [network.digest() for network in model.teacher_networks] == before
    assert {'loss_token', 'loss_map', 'share_mae', 'agreement_ibot', 'gate_entropy'} <= set(losses)
    assert all(not value.requires_grad for name, value in losses.items() if 'loss' not in name)


def test_each_network_sees_its_own_number_of_patches(build_comad, images, monkeypatch):
    model = build_comad()
    seen = {}
    for name, network in zip(model.teacher_names, model.teacher_networks, strict=True):
        original = network.tokens

        def spy(x, keep, name=name, original=original):
            seen[name] = keep
            return original(x, keep)

        monkeypatch.setattr(network, 'tokens', spy)
    model(images)
    assert {name: keep.shape[1] for name, keep in seen.items()} == dict(mae=6, mocov3=10, ibot=13)
    assert torch.equal(seen['mae'], seen['ibot'][:, :6])


@torch.no_grad()
def test_losses_are_those_of_the_parts(build_comad, images):
    model = build_comad(map_weight=0.5).eval()
    torch.manual_seed(3)
    losses = model(images)
    torch.manual_seed(3)
    masks = draw_masks('chain', 6, 16, 0.75, model.teacher_ratios)
    tokens = model.backbone.tokens(images, masks.student)
    rebuilt = normalize(model.decoder(tokens, masks.student))
    student = normalize(tokens[:, 1:])
    aligned, visible = model.align(model.teacher_tokens(images, masks), masks)
    query = rebuilt.clone()
    for b in range(6):
        query[b, masks.student[b]] = student[b]
    weights = model.gate(aligned, visible, query).weights
    consensus = normalize((weights.unsqueeze(-1) * aligned).sum(1))
    target = torch.stack([consensus[b, masks.student[b]] for b in range(6)])
    assert float(losses['loss_token']) == pytest.approx(float(token_kl(target, student)), rel=1e-4)
    expected = 0.5 * map_kl(consensus, rebuilt, visible.any(1))
    assert float(losses['loss_map']) == pytest.approx(float(expected), rel=1e-4)


def test_shares_sum_to_one_on_the_students_patches(build_comad, images):
    losses = build_comad()(images)
    assert sum(float(losses[f'share_{name}']) for name in ('mae', 'mocov3', 'ibot')) == (
        pytest.approx(1, abs=1e-5)
    )


@pytest.mark.parametrize('align', ['procrustes', 'pca'])
def test_one_teacher_without_mask_works(build_comad, teachers, images, align):
    model = build_comad(teachers=[{**teachers[0], 'mask_ratio': 0.0}], align=align)
    losses = model(images)
    total(losses).backward()
    assert float(losses['share_mae']) == pytest.approx(1)
    assert float(losses['gate_entropy']) == pytest.approx(0, abs=1e-6)


def test_teachers_of_different_width_work(build_comad, build, teachers, images, tmp_path):
    name, content = build(
        'MAE', dict(embed_dim=64), decoder=dict(arch='sample_tiny')
    ).official_checkpoint()
    torch.save(content, tmp_path / name)
    wide = {**teachers[0], 'checkpoint': str(tmp_path / name), 'embed_dim': 64}
    model = build_comad(teachers=[wide, *teachers[1:]])
    assert total(model(images)).isfinite()


def test_identical_teachers_share_equally(build_comad, teachers, images):
    model = build_comad(teachers=[{**teachers[0], 'mask_ratio': 0.5}] * 3)
    losses = model(images)
    shares = [float(losses[f'share_mae{k}']) for k in (1, 2, 3)]
    assert shares == pytest.approx([1 / 3] * 3, abs=1e-3)


def test_cls_term_is_off_by_default_and_trains_the_cls_token(build_comad, images):
    assert 'loss_cls' not in build_comad()(images)
    model = build_comad(cls_weight=2.0)
    losses = model(images)
    losses['loss_cls'].backward()
    assert model.backbone.cls_token.grad.abs().sum() > 0


def test_learning_reduces_the_loss(build_comad, images):
    model = build_comad()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    history = []
    for _ in range(40):
        losses = model(images)
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
        history.append(float(losses['loss_token'].detach()))
    assert sum(history[-5:]) < 0.7 * sum(history[:5])


def test_checkpoint_holds_the_alignment_and_not_the_teachers(build_comad, images, build, teachers):
    model = build_comad()
    state = model.state_dict()
    assert not [name for name in state if name.startswith('teacher_networks')]
    fresh = build('CoMAD', teachers=teachers, decoder=dict(arch='sample_tiny'))
    with pytest.raises(RuntimeError, match='not fitted'):
        fresh(images)
    fresh.load_state_dict(state)
    torch.manual_seed(1)
    expected = model(images)['loss_token']
    torch.manual_seed(1)
    assert torch.equal(fresh(images)['loss_token'], expected)


class Folder(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return dict(inputs=torch.randn(3, 32, 32, generator=generator), labels=0)


class Stack(torch.nn.Module):
    def forward(self, data, training):
        return {'inputs': torch.stack(data['inputs'])}


def test_prepare_fits_on_seeded_images_and_leaves_the_random_states_alone(build, teachers):
    maps = []
    for seed in (5, 5, 6):
        runner = SimpleNamespace(train_dataloader=SimpleNamespace(dataset=Folder()), seed=seed)
        model = build(
            'CoMAD', teachers=teachers, n_fit=24, cls_weight=1.0, decoder=dict(arch='sample_tiny')
        )
        model.data_preprocessor = Stack()
        states = torch.get_rng_state(), np.random.get_state()[1].copy()
        model.prepare(runner)
        assert torch.equal(states[0], torch.get_rng_state())
        assert (states[1] == np.random.get_state()[1]).all()
        assert model.alignment.fitted and model.cls_alignment.fitted
        maps.append(model.alignment.map_2.clone())
    assert torch.equal(maps[0], maps[1]) and not torch.equal(maps[0], maps[2])


@pytest.mark.parametrize(
    'options,named',
    [
        (dict(masks='free'), 'student_subset'),
        (dict(align='none'), 'procrustes'),
        (dict(map_axis='both'), 'spatial'),
        (dict(gate='mean'), 'agreement_only'),
        (dict(positions='rope'), 'sincos'),
        (dict(teachers=[]), 'teachers is empty'),
    ],
)
def test_bad_options_are_named(build_comad, options, named):
    with pytest.raises(ValueError, match=named):
        build_comad(**options)


def test_a_teacher_may_not_see_less_than_the_student(build_comad, teachers):
    with pytest.raises(ValueError, match='0.9'):
        build_comad(teachers=[{**teachers[0], 'mask_ratio': 0.9}])


def test_teachers_take_the_grid_of_the_student_unless_told_otherwise(build_comad, teachers):
    model = build_comad(dict(img_size=16))
    assert {teacher.token_grid for teacher in model.teacher_networks} == {(2, 2)}
    with pytest.raises(ValueError, match='equal grids'):
        build_comad(teachers=[{**teachers[0], 'grid': 2}])


def test_effective_rank_counts_equal_directions():
    x = torch.randn(20000, 8) * torch.tensor([1.0] * 5 + [0.0] * 3)
    assert float(effective_rank(x)) == pytest.approx(5, abs=0.05)
    assert float(effective_rank(torch.ones(10, 4))) == pytest.approx(1, abs=1e-3)


def test_seeded_is_reproducible():
    with seeded(4):
        first = torch.rand(2), np.random.rand()
    with seeded(4):
        second = torch.rand(2), np.random.rand()
    assert torch.equal(first[0], second[0]) and first[1] == second[1]
