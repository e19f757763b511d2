"""Cached features train the same heads as fresh ones."""

import pytest
import torch
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import Dataset

import comad.engine.register  # noqa: F401
from comad.evaluation import LinearProbe


@DATASETS.register_module()
class NoisyImages(Dataset):
    """Fixed images, to which ``noise`` adds something new at every access."""

    def __init__(self, length: int, noise: float) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(length, 3, 32, 32, generator=generator)
        self.noise = noise

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        image = self.images[index]
        return dict(inputs=image + self.noise * torch.randn_like(image), labels=index % 4)


class CountedProbe(LinearProbe):
    """Counts the images that pass through the backbone."""

    images = 0

    def features(self, images: Tensor) -> dict[str, Tensor]:
        self.images += len(images)
        return super().features(images)


def runner(
    folder, cached_passes: int, seed: int = 0, noise: float = 0.0, batch: int = 12
) -> Runner:
    torch.manual_seed(0)
    backbone = dict(type='MaskedViT', arch='sample_tiny', img_size=32, depth=1)
    return Runner(
        model=CountedProbe(backbone, num_classes=4),
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=dict(type='NoisyImages', length=12, noise=noise),
            batch_size=batch,
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(type='LinearProbeLoop', max_epochs=4, cached_passes=cached_passes),
        optim_wrapper=dict(
            optimizer=dict(type='Lars', lr=6.4), constructor='LayerWiseDecayConstructor'
        ),
        default_hooks=dict(checkpoint=None, logger=None),
        randomness=dict(seed=seed),
        experiment_name=f'{folder.name}_{cached_passes}_{seed}_{batch}',
        log_level='ERROR',
    )


def test_cached_and_fresh_features_train_equal_heads(tmp_path):
    """With constant images and whole-set batches neither order nor augmentation plays a part."""
    fresh, cached = (runner(tmp_path, passes) for passes in (0, 1))
    start = {name: t.clone() for name, t in cached.model.heads.state_dict().items()}
    for run in (fresh, cached):
        run.train()
    trained = cached.model.heads.state_dict()
    for name, expected in fresh.model.heads.state_dict().items():
        torch.testing.assert_close(trained[name], expected, rtol=1e-4, atol=1e-6)
        assert not torch.equal(trained[name], start[name])
    assert (fresh.model.images, cached.model.images) == (48, 12)
    assert fresh.iter == cached.iter == 4


def test_every_epoch_has_all_images_in_an_order_of_its_own(tmp_path):
    run = runner(tmp_path, cached_passes=2, batch=5)
    seen: list[Tensor] = []
    original = run.model.forward

    def record(inputs, labels, mode):
        seen.append(inputs['mean'][:, 0].clone())
        return original(inputs, labels, mode)

    run.model.forward = record
    run.train()
    assert [len(batch) for batch in seen] == [5, 5, 2] * 4
    epochs = [torch.cat(seen[start : start + 3]) for start in (0, 3, 6, 9)]
    for epoch in epochs:
        torch.testing.assert_close(epoch.sort().values, epochs[0].sort().values)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 4
    assert run.model.images == 24


def test_passes_depend_on_seed_and_number_only(tmp_path):
    loops = []
    for seed in (0, 0, 1):
        run = runner(tmp_path, cached_passes=2, seed=seed, noise=1.0)
        loops.append(run.build_train_loop(run._train_loop))
        torch.manual_seed(len(loops))
    first, again, other = ([loop._compute_pass(i)[0]['cls'] for i in (0, 1)] for loop in loops)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[0], other[0])
    # A kept class feature, which is a view, would keep all tokens of its batch.
    assert first[0].untyped_storage().nbytes() == first[0].numel() * first[0].element_size()


@pytest.mark.parametrize('passes', [-1, 5])
def test_impossible_numbers_of_passes_are_refused(tmp_path, passes):
    run = runner(tmp_path, passes)
    with pytest.raises(ValueError, match=f'cached_passes {passes} must lie in 0 to 4'):
        run.build_train_loop(run._train_loop)
