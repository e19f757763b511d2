"""Training data whose every random draw and position follow from (seed, epoch, batch, slot, rank).

A resumed run then reads what the uninterrupted one would have read, with any number of workers, and
starts without reading what it has already seen.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice
from struct import pack, unpack
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import BatchSampler, DataLoader, Dataset

_SAMPLE_GENERATOR = np.random.MT19937()


class SampleIndex(int):
    """An index into a data set that carries where in the run it is read.

    Attributes:
        place: (epoch, batch within the epoch, slot within the batch).
    """

    place: tuple[int, int, int]


def place_batch(batch: list[int], epoch: int, number: int) -> list[SampleIndex]:
    """The batch's indices with their places.

    Raises:
        TypeError: the sampler yields something else than numbers.
    """
    placed = []
    for slot, index in enumerate(batch):
        if not isinstance(index, int):
            raise TypeError(f'the sampler yields {type(index).__name__}: expected int')
        sample = SampleIndex(index)
        sample.place = (epoch, number, slot)
        placed.append(sample)
    return placed


@contextmanager
def sample_randomness(seed: int, rank: int, place: tuple[int, int, int]) -> Iterator[None]:
    """Seed Python, NumPy and torch (CPU) for one sample and restore their states afterwards.

    NumPy gets another generator meanwhile: copying its state takes 50 times as long. Only the
    second normal of a pair, which NumPy keeps back, is not restored.
    """
    key = pack('<5q', seed, rank, *place)
    python, numpy, torch_seed = unpack('<QLQ', blake2b(key, digest_size=20).digest())
    states = random.getstate(), torch.default_generator.get_state()
    outside = np.random.get_bit_generator()
    np.random.set_bit_generator(_SAMPLE_GENERATOR)
    random.seed(python)
    np.random.seed(numpy)
    # torch.manual_seed would also reach for accelerators, which workers must not touch.
    torch.default_generator.manual_seed(torch_seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_bit_generator(outside)
        torch.default_generator.set_state(states[1])


@DATASETS.register_module()
class SeededDataset(Dataset):
    """Seeds around every sample that is read at a place of the run.

    Everything else is the wrapped data set's: attributes are read from it and written to it.
    Plain indices, as the online probe uses, are passed on without seeding.

    Args:
        dataset: A data set or its config.
        seed: The run's.
    """

    _OWN = ('dataset', 'seed', 'rank')

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.seed = seed
        self.rank = get_rank()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        place = getattr(index, 'place', None)
        if place is None:
            return self.dataset[index]
        with sample_randomness(self.seed, self.rank, place):
            return self.dataset[int(index)]

    def __getattr__(self, name: str) -> Any:
        # Not __getitems__, by which a DataLoader would read a whole batch past the seeding; and
        # nothing while a copy is not filled yet.
        if name in SeededDataset._OWN or name.startswith('__'):
            raise AttributeError(f'{type(self).__name__} has no attribute {name!r}')
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in SeededDataset._OWN:
            super().__setattr__(name, value)
        else:
            setattr(self.dataset, name, value)


@DATA_SAMPLERS.register_module()
class ResumableBatchSampler(BatchSampler):
    """A batch sampler that can start in the middle and says where every sample is read.

    What is skipped costs indices, no images.

    Args:
        sampler: Yields the indices.
        batch_size: Images per batch and process.
        drop_last: Leave out an incomplete last batch.
        batch_sampler: Config of another batch sampler (mmdet's AspectRatioBatchSampler); default
            torch's.
    """

    def __init__(
        self,
        sampler: Any,
        batch_size: int,
        drop_last: bool = False,
        batch_sampler: dict[str, Any] | None = None,
    ) -> None:
        if batch_sampler is None:
            self.batches = BatchSampler(sampler, batch_size, drop_last)
        else:
            options = dict(sampler=sampler, batch_size=batch_size)
            self.batches = DATA_SAMPLERS.build(batch_sampler, default_args=options)
        self.sampler = sampler  # DistSamplerSeedHook looks here
        self.batch_size = self.batches.batch_size
        self.drop_last = drop_last
        self.begin(0)

    def begin(self, epoch: int, skip: int = 0, endless: bool = False) -> None:
        """Say what the next iteration yields.

        Args:
            epoch: Decides the order, and the draws of its samples.
            skip: Batches left out at the beginning.
            endless: Go on with the following epochs, as iteration-based training does.
        """
        self.epoch, self.skip, self.endless = epoch, skip, endless

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        # Epoch and skip are taken now: a generator would take them at its first batch.
        places = self._places(self.epoch, self.endless)
        return (place_batch(batch, *place) for place, batch in islice(places, self.skip, None))

    def _places(self, epoch: int, endless: bool) -> Iterator[tuple[tuple[int, int], list[int]]]:
        while True:
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)
            number = -1
            for number, batch in enumerate(self.batches):
                yield (epoch, number), batch
            if not endless:
                return
            if number < 0:
                raise ValueError('the training data has no batch: fewer images than a batch holds')
            epoch += 1


def exact_dataloader(config: DataLoader | dict[str, Any], seed: int) -> dict[str, Any]:
    """A dataloader's config with `SeededDataset` and `ResumableBatchSampler` around its own.

    Raises:
        TypeError: a DataLoader that has been built already.
        ValueError: ``drop_last`` beside a batch sampler, which decides that itself.
    """
    if isinstance(config, DataLoader):
        raise TypeError('train_dataloader is a DataLoader: expected its config, a dict')
    config = dict(config)
    if config.get('drop_last') and config.get('batch_sampler'):
        raise ValueError(
            'train_dataloader.drop_last=True beside a batch_sampler: expected it inside of that'
        )
    config['dataset'] = dict(type=SeededDataset, dataset=config['dataset'], seed=seed)
    config['batch_sampler'] = dict(
        type=ResumableBatchSampler,
        batch_sampler=config.pop('batch_sampler', None),
        drop_last=config.pop('drop_last', False),
    )
    return config
