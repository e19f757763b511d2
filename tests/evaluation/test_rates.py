"""A sweep of learning rates in one run equals separate runs, and the best is reported."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from comad.evaluation import Accuracy, pooled_features, sample_predictions

BACKBONE = dict(type='MaskedViT', arch='sample_tiny', img_size=32)
RATES = (0.5, 1.0, 4.0)


def probe(**options):
    torch.manual_seed(0)
    config = dict(type='LinearProbe', backbone=BACKBONE, num_classes=4, batch_norm=False)
    return MODELS.build(config | options)


def test_every_rate_trains_as_if_alone():
    model = probe(pools=('cls',), rates=RATES)
    features = torch.randn(64, 64, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(64) % 4
    start = model.heads['cls'].weight.detach().clone(), model.heads['cls'].bias.detach().clone()
    optimizer = torch.optim.SGD(model.heads.parameters(), lr=0.1, momentum=0.9)
    for _ in range(20):
        optimizer.zero_grad()
        model({'cls': features}, labels, mode='loss')['loss_cls'].backward()
        optimizer.step()
    scores = model({'cls': features})['cls']
    for i, rate in enumerate(RATES):
        weight = start[0][4 * i : 4 * i + 4].clone().requires_grad_()
        bias = start[1][4 * i : 4 * i + 4].clone().requires_grad_()
        alone = torch.optim.SGD([weight, bias], lr=0.1 * rate, momentum=0.9)
        for _ in range(20):
            alone.zero_grad()
            F.cross_entropy(F.linear(features, weight, bias), labels).backward()
            alone.step()
        torch.testing.assert_close(scores[:, i], F.linear(features, weight, bias))


def test_the_best_variant_is_reported_with_its_setting():
    labels = torch.tensor([0, 1, 2, 0])
    right = F.one_hot(labels, 3).float()
    half = right.clone()
    half[:2] = half[:2].roll(1, dims=1)
    metric = Accuracy(topk=(1, 2))
    scores = {'cls4@0.1': half, 'cls4@2': right, 'mean': half}
    metric.process(None, sample_predictions(scores, labels))
    result = metric.evaluate(4)
    assert result['top1_cls4'] == 100 and result['best_cls4'] == 2.0
    assert result['top1_mean'] == 50 and 'best_mean' not in result
    assert set(result) == {'top1_cls4', 'top2_cls4', 'top1_mean', 'top2_mean', 'best_cls4'}


def test_predictions_name_pool_and_rate():
    model = probe(pools=('cls4', 'cls_mean'), rates=RATES).eval()
    images = torch.randn(2, 3, 32, 32)
    samples = model(images, torch.tensor([0, 1]), mode='predict')
    assert set(samples[0]['scores']) == {
        f'{pool}@{rate}' for pool in ('cls4', 'cls_mean') for rate in ('0.5', '1', '4')
    }
    assert model.heads['cls4'].weight.shape == (12, 256)
    assert model.heads['cls_mean'].weight.shape == (12, 128)


@pytest.mark.parametrize(
    'options', [dict(rates=(1.0, 1.0)), dict(rates=()), dict(rates=(-1.0,)),
                dict(rates=(1.0,), batch_norm=True)]
)  # fmt: skip
def test_impossible_rates(options):
    with pytest.raises(ValueError, match='rates'):
        probe(**options)


def test_features_of_several_blocks():
    backbone = MODELS.build(BACKBONE).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = pooled_features(backbone, images, ('cls4', 'cls_mean', 'cls', 'mean'))
        x, blocks = backbone.embed(images), []
        for index in range(4):
            x = backbone.run(x, index, index + 1)
            blocks.append(backbone.norm(x)[:, 0])
        torch.testing.assert_close(features['cls4'], torch.cat(blocks, dim=1))
        both = torch.cat([features['cls'], features['mean']], dim=1)
        torch.testing.assert_close(features['cls_mean'], both)
        torch.testing.assert_close(features['mean'], backbone.tokens(images)[:, 1:].mean(1))


def test_too_few_blocks():
    backbone = MODELS.build(BACKBONE | dict(depth=2))
    with pytest.raises(ValueError, match='cls4 needs 4 blocks, the backbone has 2'):
        pooled_features(backbone, torch.zeros(1, 3, 32, 32), ('cls4',))
