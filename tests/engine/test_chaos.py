"""The short version of the chaos test."""

import pytest

from tests.programs import run


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 2])
def test_three_kills(workers, tmp_path):
    options = ['--kills', 3, '--seed', 1, '--workers', workers]
    said = run('tests.chaos', *options, module=True, log=tmp_path / 'log').text()
    assert 'chaos: 3 kills' in said and 'bit-equal, no checkpoint lost' in said
