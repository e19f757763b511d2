"""A small embedded sample, written once."""

from pathlib import Path

import pytest
import torch

from comad.data.sample.write import SampleSizes, write_sample

SIZES = SampleSizes(imagenet_train=30, imagenet_val=20, scenes_train=12, scenes_val=8)


@pytest.fixture(scope='session')
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    root = tmp_path_factory.mktemp('data') / 'sample'
    write_sample(root, seed=3, sizes=SIZES)
    return root


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
