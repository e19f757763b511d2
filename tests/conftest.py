"""Commands that a test runs work where the test is, not in the checkout that it tests."""

import os

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
