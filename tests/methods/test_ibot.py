import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub

from backbones import save_student
from backbones.files import sha256_of
from comad.methods.ibot import MASK_SHAPES, DINOHead, block_masks

HEAD = dict(out_dim=16, hidden_dim=32, bottleneck=8)
MASKED = dict(use_mask_token=True)


@pytest.fixture
def model(build):
    model = build('IBOT', MASKED, head=HEAD, mask_shape='random').train()
    with torch.no_grad():  # centres that are not zero, a teacher that is not the student
        model.cls_center.normal_(std=0.1)
        model.patch_center.normal_(std=0.1)
        for parameter in model.teacher.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


@pytest.fixture
def views(images):
    return [images, torch.randn_like(images), torch.randn(6, 3, 16, 16), torch.randn(6, 3, 16, 16)]


def cross_entropy(teacher, student, center, teacher_temp, student_temp):
    """-sum p log q for one pair of score vectors, in float64."""
    p = torch.softmax((teacher.double() - center.double()) / teacher_temp, -1)
    q = torch.log_softmax(student.double() / student_temp, -1)
    return float(-(p * q).sum())


def scores(head, tokens):
    weight = head.prototypes / head.prototypes.norm(dim=1, keepdim=True)
    x = head.mlp(tokens)
    return (x / x.norm(dim=-1, keepdim=True)) @ weight.T


def test_losses_equal_a_loop_over_views_and_patches(model, views):
    mask = torch.rand(12, 16) < 0.4
    mask[3] = False
    model._draw_masks = lambda *_: mask
    centers = model.cls_center.clone(), model.patch_center.clone()
    with torch.no_grad():
        losses = model(views)
        t = scores(model.teacher_head, model.teacher.tokens(torch.cat(views[:2])))
        x = model.backbone.embed(torch.cat(views[:2]), mask=mask)
        s = scores(model.head, model.backbone.norm(model.backbone.run(x)))
        local = [scores(model.head, model.backbone.tokens(view)) for view in views[2:]]
    cls = [s[:6, 0], s[6:, 0], local[0][:, 0], local[1][:, 0]]
    pairs = [(i, j) for i in range(2) for j in range(4) if i != j]
    expected = sum(
        cross_entropy(t[6 * i + b, 0], cls[j][b], centers[0], 0.04, 0.1)
        for i, j in pairs
        for b in range(6)
    ) / (len(pairs) * 6)
    assert float(losses['loss_cls']) == pytest.approx(expected, rel=1e-4)
    expected = 0.0
    for b in range(12):
        places = mask[b].nonzero()[:, 0].tolist()
        terms = [cross_entropy(t[b, 1 + i], s[b, 1 + i], centers[1], 0.04, 0.1) for i in places]
        expected += sum(terms) / max(len(terms), 1) / 12
    assert float(losses['loss_patch']) == pytest.approx(expected, rel=1e-4)


def test_centres_move_towards_the_mean_of_all_teacher_scores(model, views):
    before = model.cls_center.clone(), model.patch_center.clone()
    with torch.no_grad():
        model(views)
        t = scores(model.teacher_head, model.teacher.tokens(torch.cat(views[:2])))
    cls = 0.9 * before[0] + 0.1 * t[:, 0].mean(0)
    patch = 0.9 * before[1] + 0.1 * t[:, 1:].mean((0, 1))
    assert torch.allclose(model.cls_center, cls, atol=1e-6)
    assert torch.allclose(model.patch_center, patch, atol=1e-6)
    assert {'cls_center', 'patch_center'} <= set(model.state_dict())


def test_gradients_reach_the_student_only(model, views):
    losses = model(views)
    (losses['loss_cls'] + losses['loss_patch']).backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {n for n, _ in model.named_parameters() if n.startswith('teacher')}
    assert model.backbone.mask_token.grad.abs().sum() > 0


def at(progress):
    """Half-way through its second epoch a training of 4 x 2500 steps stands at 0.375."""
    hub = MessageHub.get_current_instance()
    step = round(10000 * progress)
    for name, value in dict(iter=step, max_iters=10000, epoch=step // 2500, max_epochs=4).items():
        hub.update_info(name, value)


@pytest.fixture
def clock():
    yield at
    hub = MessageHub.get_current_instance()
    for name in ('iter', 'max_iters', 'epoch', 'max_epochs'):
        hub.pop_info(name, None)


@pytest.mark.parametrize('fixed', [True, False])
def test_the_last_layer_waits_without_a_gradient(build, views, clock, fixed):
    """Adam counts no step and decays nothing; a gradient of zero would do both."""
    model = build('IBOT', MASKED, head={**HEAD, 'norm_last_layer': fixed}, freeze_prototypes=0.25)
    names = ['prototypes'] if fixed else ['prototypes', 'lengths']
    layer = [model.head.get_parameter(name) for name in names]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    model.follow(optimizer)
    before = [parameter.clone() for parameter in layer]
    for progress, counted in ((0.0, 0), (0.2499, 0), (0.25, 1), (0.5, 2)):
        clock(progress)
        model.zero_grad()
        model(views)['loss_cls'].backward()
        optimizer.step()
        steps = [int(optimizer.state[p]['step']) if p in optimizer.state else 0 for p in layer]
        assert steps == [counted] * len(layer)
        moved = [not torch.equal(*pair) for pair in zip(before, layer, strict=True)]
        assert moved == [counted > 0] * len(layer)


def test_teacher_follows_after_the_step_with_rising_momentum(model, views, clock):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.follow(optimizer)
    for progress, momentum in ((0.0, 0.996), (0.5, 0.998), (1.0, 1.0)):
        clock(progress)
        old = model.teacher.norm.weight.clone()
        model.zero_grad()
        model(views)['loss_cls'].backward()
        assert torch.equal(model.teacher.norm.weight, old)  # the forward pass leaves it alone
        optimizer.step()
        expected = momentum * old + (1 - momentum) * model.backbone.norm.weight
        assert torch.allclose(model.teacher.norm.weight, expected, atol=1e-7)


def test_teacher_starts_as_the_student_and_stays_in_eval_mode(build):
    model = build('IBOT', dict(MASKED, drop_path_rate=0.2), head=HEAD).train()
    for name, parameter in model.teacher.named_parameters():
        assert torch.equal(parameter, model.backbone.get_parameter(name)), name
    assert not model.teacher.training and model.backbone.training
    assert model.exported is model.teacher


def test_student_and_teacher_start_from_a_file_that_is_told(build, tmp_path):
    first = build('IBOT', MASKED, head=HEAD).backbone
    with torch.no_grad():
        first.mask_token += 1
    file = save_student(tmp_path, first, dict(name='first_tiny', track='sample'))
    start = dict(type='StudentWeights', checkpoint=str(file), track='sample')
    model = build('IBOT', dict(MASKED, init_cfg=start), head=HEAD)
    assert model.backbone.loaded_from is None
    model.init_weights()
    wanted = {k: v for k, v in first.state_dict().items() if k != 'mask_token'}
    for network in (model.backbone, model.teacher):
        assert all(torch.equal(network.state_dict()[k], v) for k, v in wanted.items())
    assert not model.backbone.mask_token.any()
    assert model.backbone.loaded_from == dict(file=file.as_posix(), sha256=sha256_of(file))


def test_batch_norm_moves_almost_equal_tokens_apart():
    tokens = torch.randn(1, 12) + 0.05 * torch.randn(64, 12)
    cosine = {}
    for norm in (False, True):
        x = DINOHead(12, 16, 20, 8, norm).embed(tokens)
        cosine[norm] = float((x @ x.T).detach().mean())
    assert cosine[False] > 0.95 and cosine[True] < 0.3


@pytest.mark.parametrize('init', ['timm', 'mae'])
def test_initialisation_of_student_and_teacher(build, init):
    model = build('IBOT', MASKED, head=HEAD, init=init)
    weight = model.backbone.blocks[0].mlp.fc1.weight
    xavier = (2 / sum(weight.shape)) ** 0.5  # standard deviation
    assert float(weight.std()) == pytest.approx({'timm': 0.02, 'mae': xavier}[init], rel=0.1)
    assert float(model.backbone.cls_token.std()) == pytest.approx(0.02, rel=0.4)  # of 32 numbers
    assert not model.backbone.mask_token.any()
    assert torch.equal(weight, model.teacher.blocks[0].mlp.fc1.weight)


def test_head_is_weight_normalised():
    head = DINOHead(12, 16, 20, 8)
    with torch.no_grad():
        head.prototypes *= 7
    tokens = torch.randn(3, 12)
    assert torch.allclose(head.scores(head.embed(tokens)), scores(head, tokens), atol=1e-6)
    assert head.scores(head.embed(tokens)).abs().max() <= 1 + 1e-6


@pytest.mark.parametrize('shape', sorted(MASK_SHAPES))
def test_masks_respect_the_budget(shape):
    ratios = torch.tensor([0.0] * 50 + [0.1] * 50 + [0.5] * 50)
    shares = MASK_SHAPES[shape](150, 14, ratios).float().mean(1)
    assert (shares <= ratios + 1e-6).all()
    assert (shares[:50] == 0).all()
    assert shares[100:].mean() > 0.4


def test_block_masks_are_made_of_blocks():
    mask = block_masks(64, 14, torch.full((64,), 0.3)).reshape(64, 14, 14).float()
    neighbours = F.conv2d(mask[:, None], torch.ones(1, 1, 1, 2))[:, 0]
    # Of two horizontally adjacent patches, how often are both masked if one is?
    both, one = (neighbours == 2).sum(), (neighbours == 1).sum()
    assert both > 1.5 * one


def test_half_of_the_images_are_masked(model):
    masks = model._draw_masks(torch.empty(4000, 3, 32, 32))
    assert float(masks.any(1).float().mean()) == pytest.approx(0.5, abs=0.04)
    shares = masks[masks.any(1)].float().mean(1)
    assert shares.min() > 0 and shares.max() <= 0.5


def test_temperature_rises_once_per_epoch_and_is_there_in_the_last_of_them(build, clock):
    """iBOT's code: linspace(0.04, 0.07, 30) by epoch, then 0.07; of 300 epochs a tenth."""
    model = build('IBOT', MASKED, head=HEAD, teacher_temp=(0.04, 0.07, 0.1))
    hub = MessageHub.get_current_instance()
    official = [0.04 + 0.03 * e / 29 for e in range(30)] + [0.07] * 270
    found = []
    for epoch in range(300):
        for name, value in dict(epoch=epoch, max_epochs=300, iter=epoch * 7 + epoch % 7).items():
            hub.update_info(name, value)
        found.append(model.temperature())
    assert found == pytest.approx(official, abs=1e-12)


def test_temperature_without_rise_is_the_last_one(build, clock):
    model = build('IBOT', MASKED, head=HEAD, teacher_temp=(0.04, 0.07, 0.1))
    clock(0.0)  # a tenth of four epochs is none
    assert model.temperature() == 0.07
    MessageHub.get_current_instance().update_info('max_epochs', 1)  # counted in steps
    assert model.temperature() == 0.04


def test_targets_are_sharpened_by_the_temperature(model, images, clock):
    model.teacher_temp = (0.04, 0.07, 0.75)  # three of four epochs: 0.04, 0.055, 0.07
    cls = scores(model.teacher_head, model.teacher.tokens(images))[:, 0]
    for progress, temperature in ((0.0, 0.04), (0.2, 0.04), (0.4, 0.055), (0.5, 0.07), (0.9, 0.07)):
        expected = torch.softmax((cls - model.cls_center) / temperature, -1)
        clock(progress)
        before = model.cls_center.clone()
        target, _ = model._targets(images, torch.zeros(6, 16).nonzero(as_tuple=True))
        model.cls_center.copy_(before)
        assert torch.allclose(target, expected, atol=1e-5), progress


def test_official_checkpoint_is_the_bare_teacher(build, official_names):
    name, content = build('IBOT', dict(MASKED, arch='sample_base'), head=HEAD).official_checkpoint()
    assert name == 'checkpoint_teacher.pth'
    assert list(content) == ['state_dict']
    assert set(content['state_dict']) == official_names


@pytest.mark.parametrize(
    'options,named',
    [
        (dict(mask_shape='stripes'), 'block, random'),
        (dict(backbone={}), 'use_mask_token'),
        (dict(head=dict(width=3)), 'bottleneck'),
        (dict(init='zeros'), 'timm or mae'),
    ],
)
def test_bad_options_are_named(build, options, named):
    options = {'backbone': MASKED, 'head': HEAD, **options}
    with pytest.raises(ValueError, match=named):
        build('IBOT', **options)
