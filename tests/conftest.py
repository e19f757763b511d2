"""Commands that a test runs work where the test is, and leave its process as it was."""

import os
import sys
from collections.abc import Iterator

import pytest

from comad.runs.place import CALLER, HOME


def pytest_configure() -> None:
    """For fixtures that outlive a test; every test sets the variables again."""
    os.environ[HOME] = os.environ[CALLER] = '.'


@pytest.fixture(autouse=True)
def home_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The home of every command is the current directory; tests of the home say otherwise."""
    monkeypatch.setenv(HOME, '.')
    monkeypatch.setenv(CALLER, '.')


@pytest.fixture(autouse=True)
def threads_stay() -> Iterator[None]:
    """Two processes of tests with two threads each, on two cores, take ten times as long."""
    count = getattr(sys.modules.get('torch'), 'get_num_threads', lambda: None)
    before = count()
    yield
    assert before in (None, count()), 'this test has left torch with other threads'
