"""Training data from shards: shuffled by the seed, split by rank, resumed within an epoch."""

import pytest
import torch
from mmengine.dataset import DefaultSampler, pseudo_collate
from torch.utils.data import DataLoader

from comad.data.imagenet import ImageNetFolder
from comad.data.pack import Reencoding
from comad.data.pack import write_shards
from comad.engine.exact_data import ResumableBatchSampler, SeededDataset


@pytest.fixture(scope='module')
def shards(sample, tmp_path_factory):
    out = tmp_path_factory.mktemp('loading')
    write_shards(sample / 'imagenet', out, 'train', 7, reencoding=Reencoding())
    return out


class Ranked(DefaultSampler):
    """The sampler of one process of several."""

    def __init__(self, dataset, rank, world, seed):
        super().__init__(dataset, seed=seed)
        self.rank, self.world_size = rank, world
        self.num_samples = -(-len(dataset) // world)
        self.total_size = self.num_samples * world


def epoch(root, workers, skip=0, number=0, seed=5, rank=0, world=1):
    """Batches of one process's epoch."""
    data = SeededDataset(
        ImageNetFolder(root, views=dict(type='SingleView', size=32), decode='opencv'), seed
    )
    data.rank = rank
    batches = ResumableBatchSampler(Ranked(data, rank, world, seed), 4)
    batches.begin(number, skip)
    loader = DataLoader(data, batch_sampler=batches, num_workers=workers, collate_fn=pseudo_collate)
    return list(loader)


def same(one, two):
    pairs = zip(one, two, strict=True)
    return all(
        a['labels'] == b['labels'] and all(map(torch.equal, a['inputs'], b['inputs']))
        for a, b in pairs
    )


@pytest.mark.parametrize('workers', [1, 3])
def test_an_epoch_is_the_same_with_any_workers_and_goes_on_where_it_was(shards, workers):
    whole = epoch(shards, 0)
    assert len(whole) == 8
    assert same(epoch(shards, workers), whole)
    assert same(epoch(shards, workers, skip=5), whole[5:])


def test_seed_and_epoch_decide_the_order(shards, sample):
    whole = epoch(shards, 0)
    assert same(whole, epoch(shards, 0))
    # The sample is smaller than the shards' short side, so its bytes were kept.
    assert same(whole, epoch(sample / 'imagenet', 0))
    assert not same(whole, epoch(shards, 0, number=1))
    assert not same(whole, epoch(shards, 0, seed=6))
    labels = [label for batch in whole for label in batch['labels']]
    assert labels != sorted(labels) and sorted(labels) == sorted([*range(10)] * 3)


def test_ranks_share_the_epoch(shards):
    parts = [epoch(shards, 0, rank=rank, world=2) for rank in range(2)]
    labels = [[label for batch in part for label in batch['labels']] for part in parts]
    assert [len(part) for part in labels] == [15, 15]
    assert sorted(labels[0] + labels[1]) == sorted([*range(10)] * 3)
    assert labels[0] != labels[1]


def test_items_tell_their_index_in_shards_and_folders_whole_or_in_part(shards, sample):
    view, part = dict(type='CenterCrop', size=32, resize=32), dict(share=0.5, seed=1)
    for subset in (None, part):
        for root in (sample / 'imagenet', shards):
            data = ImageNetFolder(root, 'train', view, subset, with_index=True)
            items = [data[i] for i in range(len(data))]
            assert [item['index'] for item in items] == list(range(len(data)))
            assert [item['labels'] for item in items] == data.labels.tolist()
    assert 0 < len(data) < len(ImageNetFolder(shards, 'train', view))
    assert 'index' not in ImageNetFolder(shards, 'train', view)[0]
