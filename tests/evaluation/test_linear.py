"""The linear probe trains its heads and nothing else."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

import comad.evaluation.layer_decay  # noqa: F401
from comad.evaluation import LinearProbe
from comad.evaluation.linear import PartwiseBatchNorm

BACKBONE = dict(type='MaskedViT', arch='sample_tiny', img_size=32, depth=2, drop_path_rate=0.5)


@pytest.fixture
def probe() -> LinearProbe:
    torch.manual_seed(0)
    model = dict(type='LinearProbe', backbone=BACKBONE, num_classes=4, pools=('cls', 'mean'))
    return MODELS.build(model)


def batch(size: int = 8) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(size, 3, 32, 32, generator=generator)
    return dict(inputs=images, labels=torch.arange(size) % 4)


def test_gradients_reach_only_the_heads(probe):
    probe.train()
    losses = probe(**batch(), mode='loss')
    assert set(losses) == {'loss_cls', 'loss_mean'}
    sum(losses.values()).backward()
    reached = {name for name, p in probe.named_parameters() if p.grad is not None}
    assert reached == {
        f'heads.{pool}.1.{kind}' for pool in ('cls', 'mean') for kind in ('weight', 'bias')
    }
    assert {name for name, p in probe.named_parameters() if p.requires_grad} == reached


def test_steps_leave_the_backbone_and_change_the_heads(probe):
    wrapper = build_optim_wrapper(
        probe,
        dict(
            type='OptimWrapper',
            optimizer=dict(type='Lars', lr=6.4, momentum=0.9),
            constructor='LayerWiseDecayConstructor',
        ),
    )
    before = {name: t.clone() for name, t in probe.state_dict().items()}
    probe.train()
    first = probe.train_step(batch(), wrapper)
    for _ in range(30):
        last = probe.train_step(batch(), wrapper)
    assert last['loss_cls'] < first['loss_cls'] and last['loss_mean'] < first['loss_mean']
    changed = {name for name, t in probe.state_dict().items() if not torch.equal(t, before[name])}
    kept = {name for name in before if name.startswith('backbone.')}
    assert changed == before.keys() - kept


def test_backbone_stays_in_eval_mode(probe):
    probe.train()
    assert probe.heads.training and not any(m.training for m in probe.backbone.modules())
    # Stochastic depth of 0.5 would show as different features.
    images = batch()['inputs']
    assert torch.equal(probe.features(images)['cls'], probe.features(images)['cls'])


def test_features_are_the_normalised_tokens(probe):
    images = batch()['inputs']
    features = probe.features(images)
    raw = probe.backbone.run(probe.backbone.embed(images)).double()
    centred = raw - raw.mean(-1, keepdim=True)
    # A new LayerNorm has weight 1 and bias 0.
    tokens = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(features['cls'].double(), tokens[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        features['mean'].double(), tokens[:, 1:].sum(1) / 16, rtol=1e-4, atol=1e-5
    )


def test_head_is_batchnorm_without_affine_and_a_small_linear_layer(probe):
    norm, linear = probe.heads['mean']
    assert not norm.affine and norm.eps == 1e-6
    assert linear.bias.abs().max() == 0
    assert 0.008 < linear.weight.std() < 0.012
    assert linear.weight.abs().max() < 0.05


def test_prediction_format_and_single_pool():
    model = MODELS.build(
        dict(type='LinearProbe', backbone=BACKBONE, num_classes=4, pools=('mean',))
    )
    model.eval()
    data = batch()
    outputs = model.val_step(data)
    assert len(outputs) == 8 and set(outputs[0]['scores']) == {'mean'}
    assert [int(o['label']) for o in outputs] == data['labels'].tolist()
    assert outputs[3]['scores']['mean'].shape == (4,)


@pytest.mark.parametrize('pools', [(), ('cls', 'cls'), ('max',)])
def test_unknown_pools_are_refused(pools):
    with pytest.raises(ValueError, match='pools'):
        LinearProbe(BACKBONE, pools=pools)


def test_a_large_batch_is_normalised_in_parts():
    """MAE's 32 processes have 512 images each; one that gets 2,048 must not mix four of them."""
    x = torch.randn(2048, 5, generator=torch.Generator().manual_seed(2)) * 3 + 1
    norm = PartwiseBatchNorm(5, 512).train()
    parts = [torch.nn.BatchNorm1d(5, eps=1e-6, affine=False) for _ in range(4)]
    wanted = torch.cat([part(rows) for part, rows in zip(parts, x.split(512), strict=True)])
    assert torch.allclose(norm(x), wanted, atol=1e-6)
    whole = torch.nn.BatchNorm1d(5, eps=1e-6, affine=False)
    assert (norm(x) - whole(x)).abs().max() > 1e-2


def test_statistics_of_parts_move_the_running_ones_once_a_batch():
    x = torch.randn(12, 3)
    norm = PartwiseBatchNorm(3, 4).train()
    norm(x)
    parts = x.split(4)
    mean = sum(part.mean(0) for part in parts) / 3
    variance = sum(part.var(0) for part in parts) / 3
    assert torch.allclose(norm.running_mean, 0.1 * mean)
    assert torch.allclose(norm.running_var, 0.9 + 0.1 * variance)
    assert norm.num_batches_tracked == 1


def test_a_batch_that_fits_is_normalised_as_a_whole():
    x = torch.randn(7, 3)
    ours, torchs = PartwiseBatchNorm(3, 7), torch.nn.BatchNorm1d(3, eps=1e-6, affine=False)
    assert torch.equal(ours(x), torchs(x))
    assert torch.equal(ours.running_var, torchs.running_var)


def test_statistics_of_one_image_are_refused():
    with pytest.raises(ValueError, match='norm_images 1'):
        LinearProbe(BACKBONE, norm_images=1)
