"""Samples are seeded by their place, and wrapping a data set hides nothing of it."""

import copy
import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader, Dataset

from comad.data.views import centre_views
from comad.engine.exact_data import (
    ResumableBatchSampler,
    SeededDataset,
    exact_dataloader,
    place_batch,
)


class Draws(Dataset):
    """A sample is what the three generators say."""

    metainfo = dict(classes=('a',))
    views = None

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return index, random.random(), np.random.rand(), np.random.randn(), float(torch.rand(1))

    def __getitems__(self, indices):
        raise AssertionError('read past the seeding')


def placed(index, *place):
    sample = place_batch([index], *place[:2])[0]
    sample.place = place
    return sample


def test_a_sample_depends_on_seed_and_place_only():
    data = SeededDataset(Draws(), seed=1)
    first = data[placed(4, 0, 2, 1)]
    torch.manual_seed(99), random.seed(99), np.random.seed(99)
    assert data[placed(4, 0, 2, 1)] == first
    others = [data[placed(4, *place)] for place in ((1, 2, 1), (0, 3, 1), (0, 2, 0))]
    others.append(SeededDataset(Draws(), seed=2)[placed(4, 0, 2, 1)])
    data.rank = 1
    others.append(data[placed(4, 0, 2, 1)])
    for column in range(1, 5):
        assert len({first[column], *(other[column] for other in others)}) == 6


def test_the_states_outside_are_restored():
    def draw():
        return random.random(), np.random.rand(), float(torch.rand(1))

    def seed():
        random.seed(5), np.random.seed(5), torch.manual_seed(5)

    seed()
    expected = [draw(), draw()]
    seed()
    found = [draw()]
    SeededDataset(Draws(), seed=1)[placed(0, 0, 0, 0)]
    assert [*found, draw()] == expected


def test_a_failing_sample_restores_them_too():
    class Broken(Draws):
        def __getitem__(self, index):
            raise OSError('truncated')

    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    with pytest.raises(OSError, match='truncated'):
        SeededDataset(Broken(), seed=1)[placed(0, 0, 0, 0)]
    assert np.random.rand() == expected


def test_the_wrapped_data_set_shows_through():
    inner = Draws()
    data = SeededDataset(inner, seed=1)
    assert data.metainfo == dict(classes=('a',)) and len(data) == 10
    assert not hasattr(data, 'full_init') and not hasattr(data, '__getitems__')
    data.pipeline = 'other'  # as hooks that switch pipelines do
    assert inner.pipeline == 'other'
    for again in (copy.copy(data), copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        assert len(again) == 10 and again.seed == 1 and again.pipeline == 'other'
    assert data[3][0] == 3  # a plain index


def test_centre_views_leave_the_training_alone():
    inner = Draws()
    view = centre_views(SeededDataset(inner, seed=1), 32)
    assert inner.views is None and view.views is not None


@pytest.mark.parametrize('workers', [0, 2])
def test_batches_are_the_stock_ones_less_the_skipped(workers):
    config = exact_dataloader(
        dict(dataset=Draws(), sampler=DefaultSampler(Draws(), seed=3), batch_size=3), 1
    )
    data = SeededDataset(config['dataset']['dataset'], 1)
    batches = ResumableBatchSampler(config['sampler'], 3)
    stock = list(batches.batches)
    loader = DataLoader(data, batch_sampler=batches, num_workers=workers, collate_fn=list)
    whole = list(loader)
    assert [[sample[0] for sample in batch] for batch in whole] == stock and len(loader) == 4
    batches.begin(0, skip=2)
    assert list(loader) == whole[2:] and len(loader) == 4
    batches.begin(1)
    assert sorted(s[0] for b in loader for s in b) == list(range(10))
    assert [[s[0] for s in b] for b in loader] != stock


def test_endless_batches_shuffle_every_pass():
    batches = ResumableBatchSampler(DefaultSampler(Draws(), seed=3), 4, drop_last=True)
    batches.begin(0, endless=True)
    stream = iter(batches)
    first = [next(stream) for _ in range(6)]
    assert [b[0].place for b in first] == [(e, n, 0) for e in range(3) for n in range(2)]
    assert first[0] != first[2]
    batches.begin(0, skip=3, endless=True)
    stream = iter(batches)
    again = [next(stream) for _ in range(3)]
    assert again == first[3:] and again[0][0].place == first[3][0].place


def test_infinite_samplers_are_one_pass():
    def stream(skip):
        batches = ResumableBatchSampler(InfiniteSampler(Draws(), seed=3), 4)
        batches.begin(0, skip, endless=True)
        return iter(batches)

    whole, later = stream(0), stream(7)
    expected = [next(whole) for _ in range(9)][7:]
    found = [next(later) for _ in range(2)]
    assert found == expected and found[0][2].place == (0, 7, 2)


def test_no_batch_at_all_is_said():
    batches = ResumableBatchSampler(DefaultSampler(Draws(), seed=3), 11, drop_last=True)
    batches.begin(0, endless=True)
    with pytest.raises(ValueError, match='fewer images than a batch'):
        next(iter(batches))


def test_other_indices_and_loaders_are_refused():
    with pytest.raises(TypeError, match='yields str'):
        place_batch(['a'], 0, 0)
    with pytest.raises(TypeError, match='expected its config'):
        exact_dataloader(DataLoader(Draws()), 1)
    with pytest.raises(ValueError, match='drop_last=True beside a batch_sampler'):
        exact_dataloader(dict(dataset=Draws(), drop_last=True, batch_sampler=dict(type='Any')), 1)
