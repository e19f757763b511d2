"""k-NN against a brute-force float64 formula, and the loop inside a Runner."""

import math

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch.utils.data import Dataset

from comad.evaluation import weighted_votes

CLASSES = 3


def brute_force(query: np.ndarray, bank: np.ndarray, labels: np.ndarray, k: int) -> list[float]:
    """Votes of one query: cosine similarity to every bank row, sorted, exp(s / 0.07) summed."""
    query, bank = query.astype(np.float64), bank.astype(np.float64)
    cosine = [float(query @ row / math.sqrt((query @ query) * (row @ row))) for row in bank]
    votes = [0.0] * CLASSES
    for index in sorted(range(len(bank)), key=lambda i: -cosine[i])[:k]:
        votes[labels[index]] += math.exp(cosine[index] / 0.07)
    return votes


@pytest.mark.parametrize('block', [3, 17, 1000])
def test_votes_equal_brute_force_whatever_the_block(block):
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(6, 8, generator=generator)
    bank = torch.randn(50, 8, generator=generator)
    labels = torch.randint(0, CLASSES, (50,), generator=generator)
    votes = weighted_votes(
        torch.nn.functional.normalize(queries, dim=1),
        torch.nn.functional.normalize(bank, dim=1),
        labels,
        CLASSES,
        (1, 10, 50),
        0.07,
        block,
    )
    for k in (1, 10, 50):
        expected = [brute_force(q, bank.numpy(), labels.numpy(), k) for q in queries.numpy()]
        np.testing.assert_allclose(votes[k].numpy(), expected, rtol=2e-5)


@DATASETS.register_module()
class ColouredNoise(Dataset):
    """Images whose class shows in the noise's mean, faintly enough to be confused."""

    metainfo = dict(classes=('a', 'b', 'c'))

    def __init__(self, length: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, CLASSES, (length,), generator=generator)
        noise = torch.randn(length, 3, 32, 32, generator=generator)
        self.images = noise + 0.05 * self.labels[:, None, None, None]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=self.images[index], labels=int(self.labels[index]))


class Calls(Hook):
    """Notes which loop hooks were called."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def before_test_epoch(self, runner: Runner) -> None:
        self.names.append('test')

    def before_val_epoch(self, runner: Runner) -> None:
        self.names.append('val')


def loader(length: int, seed: int) -> dict:
    return dict(
        dataset=dict(type='ColouredNoise', length=length, seed=seed),
        batch_size=16,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )


def runner(folder, phase: str = 'test', init_cfg: dict | None = None, **options) -> Runner:
    torch.manual_seed(0)
    backbone = dict(type='MaskedViT', arch='sample_tiny', img_size=32, depth=1, init_cfg=init_cfg)
    loop = dict(
        type='KNNTestLoop',
        bank_dataloader=loader(45, 1),
        **dict(dict(neighbours=(5, 20), phase=phase), **options),
    )
    parts = {
        f'{phase}_dataloader': loader(30, 2),
        f'{phase}_cfg': loop,
        f'{phase}_evaluator': dict(type='Accuracy', topk=(1,)),
    }
    return Runner(
        model=dict(type='FrozenFeatures', backbone=backbone),
        work_dir=str(folder),
        experiment_name=f'{phase}_{folder.name}',
        log_level='ERROR',
        **parts,
    )


@pytest.mark.parametrize('phase', ['test', 'val'])
def test_loop_reports_both_pools_and_every_k(tmp_path, phase):
    run = runner(tmp_path, phase)
    calls = Calls()
    run.register_hook(calls)
    metrics = run.test() if phase == 'test' else run.val()
    assert calls.names == [phase]
    bank, queries = ColouredNoise(45, 1), ColouredNoise(30, 2)
    expected = {}
    with torch.no_grad():
        for pool in ('cls', 'mean'):
            features = [run.model.features(d.images)[pool].numpy() for d in (bank, queries)]
            for k in (5, 20):
                votes = [brute_force(q, features[0], bank.labels.numpy(), k) for q in features[1]]
                hits = [
                    int(np.argmax(v)) == int(y) for v, y in zip(votes, queries.labels, strict=True)
                ]
                expected[f'top1_{pool}' if k == 20 else f'top1_{pool}_k{k}'] = 100 * np.mean(hits)
    assert metrics == pytest.approx(expected)
    assert len({round(v, 6) for v in metrics.values()}) > 1


def test_a_student_that_was_never_loaded_is_refused(tmp_path):
    init_cfg = dict(type='StudentWeights', student='scratch_tiny')
    run = runner(tmp_path, init_cfg=init_cfg)
    with pytest.raises(RuntimeError, match='scratch_tiny.*never loaded'):
        run.test()
    run.model.init_weights()
    assert run.test().keys() == {'top1_cls', 'top1_mean', 'top1_cls_k5', 'top1_mean_k5'}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(neighbours=(20, 46)), r'\(20, 46\) must lie between 1 and the 45 images'),
        (dict(neighbours=(5, 10)), 'report_k 20 is not one of'),
        (dict(neighbours=(0, 20)), 'between 1 and'),
        (dict(phase='train'), "phase 'train'"),
        (dict(pools=('cls', 'max')), 'max'),
    ],
)
def test_wrong_settings_are_refused_before_anything_runs(tmp_path, options, message):
    run = runner(tmp_path)
    loop = {**run._test_loop, **options}
    with pytest.raises(ValueError, match=message):
        run.build_test_loop(loop)


def test_the_bank_holds_features_alone(tmp_path):
    """A list of class features, which are views, held all tokens of ImageNet: 194 GB, not 1."""
    run = runner(tmp_path)
    loop = run.build_test_loop(run._test_loop)
    with torch.no_grad():
        bank, labels = loop._bank()
    expected = run.model.features(ColouredNoise(45, 1).images)
    assert labels.tolist() == ColouredNoise(45, 1).labels.tolist()
    for pool, x in bank.items():
        torch.testing.assert_close(x, expected[pool])
        assert x.untyped_storage().nbytes() == x.numel() * x.element_size()


def test_the_bank_is_normalised_in_place(tmp_path):
    run = runner(tmp_path)
    loop = run.build_test_loop(run._test_loop)
    bank = 3 * torch.randn(45, 8, generator=torch.Generator().manual_seed(0))
    expected = bank / bank.norm(dim=1, keepdim=True)
    loop.fit({'cls': bank}, torch.zeros(45), CLASSES)
    assert loop.bank['cls'].data_ptr() == bank.data_ptr()
    torch.testing.assert_close(loop.bank['cls'], expected)
