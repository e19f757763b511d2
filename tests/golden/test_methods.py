"""Losses and student of twenty seeded steps of every pretraining: equal, before and after.

Those of comad/distill are held by tests/distill/test_formulas.py.
"""

import json
from collections import OrderedDict

import pytest
from mmengine.logging import MessageHub
from mmengine.registry import MODELS

from comad.methods.base import PretrainMethod
from tests.golden.methods import FILE, METHODS, STEPS, train

GOLDEN = json.loads(FILE.read_text())
# Between sets of kernels (ATen default to AVX-512, MKL SSE 4.2 to AVX-512, one and
# two threads) losses differ by 6e-11 of themselves at most, figures of the student by 8e-11; a bias
# that has no gradient but rounding differs by all of its 1e-11.
RELATIVE, ABSOLUTE = 1e-8, 1e-9


@pytest.fixture(autouse=True)
def fresh_hub(monkeypatch):
    """No training in progress, before or afterwards."""
    monkeypatch.setattr(MessageHub, '_instance_dict', OrderedDict())


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Where the teachers' files lie, made once."""
    return tmp_path_factory.mktemp('teachers')


def test_every_method_is_there():
    known = {
        name
        for name, kind in MODELS.module_dict.items()
        if isinstance(kind, type)
        and issubclass(kind, PretrainMethod)
        and kind.__module__.startswith('comad.methods.')
    }
    assert known == {config['type'] for config in METHODS.values()}
    assert list(METHODS) == list(GOLDEN)


@pytest.mark.parametrize('name', METHODS)
def test_same_losses_and_same_student(name, folder):
    found, wanted = train(name, folder), GOLDEN[name]
    assert list(found['steps']) == list(wanted['steps'])
    for key, values in wanted['steps'].items():
        assert len(values) == STEPS
        logged = [value is not None for value in values]
        assert [value is not None for value in found['steps'][key]] == logged, key
        pairs = [pair for pair in zip(found['steps'][key], values, strict=True) if None not in pair]
        now, before = zip(*pairs, strict=True)
        assert now == pytest.approx(before, rel=RELATIVE, abs=ABSOLUTE), key
    assert sorted(found['student']) == sorted(wanted['student'])
    for key, (norm, *others) in wanted['student'].items():
        close = max(ABSOLUTE, RELATIVE * norm)
        assert found['student'][key] == pytest.approx([norm, *others], rel=0, abs=close), key
