"""A tenth of the fuzz test: `python -m tests.fuzz` runs all of it."""

import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.fuzz.__main__ import KINDS, memory, run
from tests.fuzz.outcome import MARK, Kind, judge

CASES = range(100)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.filterwarnings('ignore')
def test_every_outcome_is_success_or_one_line(kind):
    with tempfile.TemporaryDirectory(prefix='fuzz-', dir=memory()) as folder:
        words, faults = run(KINDS[kind](Path(folder)), 0, CASES)
    assert faults == []
    # Mutations that are all refused, or none of which is, would show nothing.
    assert words['success'] >= 5 and words['refused'] >= 5


class Toy(Kind):
    """Does what it is told."""

    name = 'toy'
    act = staticmethod(lambda case: None)

    def prepare(self, draw, case):
        return 'toy', lambda: self.act(case)


def refuse(case, text='{}/a.jpg: cannot be read', kind=ValueError):
    raise kind(text.format(case))


@pytest.mark.parametrize(
    ('act', 'told'),
    [
        (lambda case: None, 'success'),
        (refuse, 'refused'),
        (lambda case: refuse(case, kind=KeyError), 'KeyError'),
        (lambda case: refuse(case, 'a.jpg: cannot be read'), 'nothing named'),
        (lambda case: refuse(case, 'height'), 'no message'),
        (lambda case: refuse(case, '{}: <_io.BytesIO object at 0x7f1200ab>'), 'an address'),
        (lambda case: refuse(case, '{}: Traceback (most recent call last)'), 'a traceback'),
        (lambda case: (case / '.a.json.12.tmp').touch(), 'half-written'),
        (lambda case: (case / MARK).touch(), 'was written'),
        (lambda case: subprocess.run(['true'], check=True), 'started subprocess.Popen'),
    ],
)
def test_the_judge_tells_faults(tmp_path, monkeypatch, act, told):
    monkeypatch.setattr(Toy, 'act', staticmethod(act))
    word, fault = judge(Toy(tmp_path), 0, 0)
    assert told in (fault or word)
    assert (word == 'fault') == (fault is not None)
    assert list(tmp_path.iterdir()) == []
