"""The fine-tuned classifier: which parameters train, and on what targets."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS

from backbones.architectures import network_config
from comad.engine.models import compiles
from comad.engine.runner import BenchmarkRunner
from comad.evaluation import ImageClassifier

BACKBONE = dict(type='MaskedViT', arch='sample_tiny', img_size=32, depth=2)


def build(**options) -> ImageClassifier:
    torch.manual_seed(0)
    return MODELS.build(dict(type='ImageClassifier', backbone=BACKBONE, num_classes=4, **options))


def batch(size: int = 8) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(size, 3, 32, 32, generator=generator)
    return dict(inputs=images, labels=torch.arange(size) % 4)


@pytest.mark.parametrize('pool', ['mean', 'cls'])
@pytest.mark.parametrize('use_mask_token', [False, True])
def test_every_trainable_parameter_gets_a_gradient(pool, use_mask_token):
    # Head weights of 2e-5 give gradients that are small but not zero.
    model = build(pool=pool)
    if use_mask_token:
        backbone = dict(BACKBONE, use_mask_token=True)
        model = ImageClassifier(backbone, num_classes=4, pool=pool)
    model.train()
    model(**batch(), mode='loss')['loss_class'].backward()
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    reached = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trainable == reached
    frozen = {name for name, _ in model.named_parameters()} - trainable
    expected = {'backbone.norm.weight', 'backbone.norm.bias'} if pool == 'mean' else set()
    assert frozen == expected | ({'backbone.mask_token'} if use_mask_token else set())


def test_mean_pool_is_the_norm_of_the_mean_of_raw_patch_tokens():
    model = build(pool='mean').eval()
    images = batch()['inputs']
    raw = model.backbone.tokens(images, layers=[1])[0]
    pooled = raw[:, 1:].sum(1) / 16
    expected = F.layer_norm(pooled, (64,), eps=1e-6) @ model.head.weight.T
    torch.testing.assert_close(model(images), expected)


def test_cls_pool_is_the_class_token_after_the_final_norm():
    model = build(pool='cls').eval()
    images = batch()['inputs']
    torch.testing.assert_close(model(images), model.head(model.backbone.tokens(images)[:, 0]))


@pytest.mark.parametrize(
    ('arch', 'has_blocks'), [('sample_tiny', True), ('sample_resnet18', False)]
)
def test_only_what_has_blocks_is_compiled_and_said_to_be(arch, has_blocks):
    model = ImageClassifier(network_config(arch), num_classes=4)
    assert compiles(True, model) == has_blocks and not compiles(False, model)
    assert compiles('auto', model) == (has_blocks and torch.cuda.is_available())
    runner, said = BenchmarkRunner.__new__(BenchmarkRunner), []
    runner.model, runner.cfg = model, Config(dict(compile=dict(backend='eager')))
    runner.logger = SimpleNamespace(info=said.append)
    runner._maybe_compile('train_step')
    assert len(said) == has_blocks and bool(runner.cfg.compile) == has_blocks


def test_compiled_blocks_train_as_plain_ones_and_evaluation_runs_as_written():
    plain, compiled = build(head_std=0.02).train(), build(head_std=0.02).train()
    compiled.compile_parts(backend='aot_eager')
    expected, found = (m(**batch(), mode='loss')['loss_class'] for m in (plain, compiled))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    expected.backward()
    found.backward()
    for (name, a), b in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-7, msg=name)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    calls = []

    def backend(graph, _):
        calls.append(graph)
        return graph.forward

    seen = build().eval()
    seen.compile_parts(backend=backend)
    torch.testing.assert_close(seen(batch(5)['inputs']), build().eval()(batch(5)['inputs']))
    assert not calls
    seen.train()(**batch(), mode='loss')
    assert calls


def test_head_starts_almost_at_zero():
    model = build()
    assert model.head.weight.abs().max() < 1e-4 and 1e-5 < model.head.weight.std() < 3e-5
    loss = model(**batch(), mode='loss')['loss_class']
    assert loss.item() == pytest.approx(torch.tensor(4.0).log().item(), abs=1e-3)


def test_mixup_mixes_images_and_targets_alike():
    """timm mixes each image with its mirror in the batch; the loss must use the same weights."""
    model = build(mixup=dict(mixup_alpha=0.8, cutmix_alpha=0.0), label_smoothing=0.1).eval()
    model.head.weight.data.normal_()
    data = batch()
    np.random.seed(3)
    loss = model(data['inputs'].clone(), data['labels'], mode='loss')['loss_class']
    np.random.seed(3)
    np.random.rand()  # timm draws whether to mix before it draws the weight
    lam = np.random.beta(0.8, 0.8)
    mixed = lam * data['inputs'] + (1 - lam) * data['inputs'].flip(0)
    one_hot = torch.full((8, 4), 0.1 / 4).scatter_(1, data['labels'][:, None], 0.9 + 0.1 / 4)
    target = lam * one_hot + (1 - lam) * one_hot.flip(0)
    expected = -(target * model(mixed).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize('smoothing', [0.0, 0.2])
def test_plain_labels_with_smoothing(smoothing):
    model = build(label_smoothing=smoothing).eval()
    model.head.weight.data.normal_()
    data = batch()
    expected = F.cross_entropy(model(data['inputs']), data['labels'], label_smoothing=smoothing)
    torch.testing.assert_close(model(**data, mode='loss')['loss_class'], expected)


def test_validation_sees_plain_images():
    model = build(mixup=dict(mixup_alpha=0.8)).eval()
    data = batch()
    outputs = model.val_step(data)
    stacked = torch.stack([o['scores']['mean'] for o in outputs])
    torch.testing.assert_close(stacked, model(data['inputs']))


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match='label_smoothing'):
        build(label_smoothing=1.0)
    with pytest.raises(ValueError, match='pools'):
        build(pool='avg')
    with pytest.raises(TypeError, match='mixup_alfa'):
        build(mixup=dict(mixup_alfa=0.8))
