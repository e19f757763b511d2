"""Resolved configs: read as MMEngine reads them, nothing executed, entries of lists by type."""

import pytest

from comad.engine.options import RunOptions
from comad.engine.run_config import load_run_config, parse_config
from comad.runs.resolved import flatten, read_resolved

LEAVES = ('pretrain_configs/comad_tiny.py', 'cls_configs/linear_comad_tiny.py')


@pytest.mark.parametrize('leaf', LEAVES)
def test_a_dump_reads_as_mmengine_reads_it(tmp_path, leaf):
    load_run_config(RunOptions(config=leaf, track='sample'), check=False).dump(tmp_path / 'c.py')
    assert read_resolved(tmp_path / 'c.py') == parse_config(tmp_path / 'c.py')._cfg_dict.to_dict()


def test_odd_keys_and_numbers(tmp_path):
    from mmengine.config import Config

    content = {'a': {'b-c': 1, 'd': (-2.5, None), 'e': {}}, 'f': float('inf'), 'g': ['h', True]}
    Config(content).dump(tmp_path / 'c.py')
    assert read_resolved(tmp_path / 'c.py') == content


@pytest.mark.parametrize(
    ('text', 'line'),
    [
        ('a = 1\nimport os\n', 2),
        ('a = open("left", "w")\n', 1),
        ('a = dict(**open("left", "w"))\n', 1),
        ('a = [x for x in "ab"]\n', 1),
        ('a = -"b"\n', 1),
    ],
)
def test_nothing_is_executed(tmp_path, monkeypatch, text, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'c.py').write_text(text)
    with pytest.raises(ValueError, match=rf'c\.py, line {line}: ') as error:
        read_resolved('c.py')
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'left').exists()


@pytest.mark.parametrize('text', ['a = (\n', 'a = ' + '[' * 9000 + ']' * 9000, 'a = "\0"'])
def test_a_file_that_is_no_python_is_named(tmp_path, text):
    (tmp_path / 'c.py').write_text(text)
    with pytest.raises(ValueError, match='c.py is no resolved config'):
        read_resolved(tmp_path / 'c.py')


def test_an_inserted_transform_shifts_no_other():
    steps = [{'type': 'Resize', 'scale': (2, 3)}, {'type': 'Flip', 'p': 0.5}, {'type': 'Flip'}]
    flat = flatten({'pipeline': steps})
    assert flat['pipeline'] == ['Resize', 'Flip', 'Flip#2']
    assert flat['pipeline.Resize.scale'] == [2, 3] and flat['pipeline.Flip.p'] == 0.5
    longer = flatten({'pipeline': [{'type': 'Load'}, *steps]})
    changed = {key for key in {*flat, *longer} if flat.get(key) != longer.get(key)}
    assert changed == {'pipeline', 'pipeline.Load.type'}


def test_nothing_in_a_config_is_run(tmp_path):
    marker, path = tmp_path / 'ran', tmp_path / 'c.py'
    for evil in (
        f"a = open({str(marker)!r}, 'w')",
        'import os',
        'a = dict(**b)',
        'a = exit(code=1)',
        'a = b',
        'a = {**{}}',
        'dict(a=1)',
        'a = dict([])',
        'a = ' + '(' * 5000,
        'a = ' + '-' * 100_000 + '1',
        '\0',
    ):
        path.write_text(evil)
        with pytest.raises(ValueError):
            read_resolved(path)
    assert not marker.exists()
