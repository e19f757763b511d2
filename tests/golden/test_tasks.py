"""The record of every kind of task, field by field."""

import pytest

from comad.tasks.task import TASKS
from tests.golden.tasks import KINDS, make_fields, read_fields

GOLDEN = read_fields()


def test_every_kind_is_there():
    assert sorted(TASKS) == sorted(KINDS) == sorted(GOLDEN)


@pytest.mark.parametrize('kind', KINDS)
def test_equal_record(kind):
    found, wanted = make_fields(kind), GOLDEN[kind]
    differences = {
        path: (wanted.get(path, 'absent'), found.get(path, 'absent'))
        for path in sorted({*wanted, *found})
        if path not in wanted or path not in found or wanted[path] != found[path]
    }
    assert not differences, 'path: (golden, now)'
