"""Files are there whole or not at all, with the umask's mode, and cost no torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from backbones.checkpoints import write_safetensors
from backbones.files import atomic_file, atomic_path, read_json, write_json, write_text

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(params=[0o022, 0o007, 0o077])
def umask(request):
    old = os.umask(request.param)
    yield request.param
    os.umask(old)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_every_file_has_the_mode_that_the_umask_gives(tmp_path, umask):
    write_text(tmp_path / 'a.txt', 'text')
    write_safetensors(tmp_path / 'a.safetensors', {'x': torch.zeros(2)})
    with atomic_path(tmp_path / 'private') as path:
        path.unlink()
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    assert {mode(path) for path in tmp_path.iterdir()} == {0o666 & ~umask}


def test_a_failing_writer_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / 'folder' / 'a.txt'
    write_text(path, 'old')
    with pytest.raises(RuntimeError, match='half'), atomic_file(path) as file:
        file.write(b'new')
        raise RuntimeError('half')
    assert path.read_text() == 'old' and list(path.parent.iterdir()) == [path]


def test_the_new_name_appears_only_when_the_block_has_ended(tmp_path):
    with atomic_file(tmp_path / 'a') as file:
        file.write(b'all of it')
        assert not (tmp_path / 'a').exists()
    assert (tmp_path / 'a').read_bytes() == b'all of it'


def test_what_a_killed_process_of_the_same_number_left_is_no_part_of_the_file(tmp_path):
    (tmp_path / f'.a.{os.getpid()}.tmp').write_text('left behind')
    with atomic_path(tmp_path / 'a') as path, open(path, 'ab') as file:
        file.write(b'new')
    assert (tmp_path / 'a').read_bytes() == b'new'


def test_json_comes_back_and_holds_no_number_that_json_has_not(tmp_path):
    write_json(tmp_path / 'a.json', {'b': [1, None], 'a': 'é'}, indent=1, sort_keys=True)
    assert read_json(tmp_path / 'a.json') == {'a': 'é', 'b': [1, None]}
    with pytest.raises(ValueError, match='not JSON compliant'):
        write_json(tmp_path / 'a.json', {'a': float('nan')})
    assert read_json(tmp_path / 'a.json')['a'] == 'é'


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('{"a": 1', 'is not valid JSON'),
        ('[1]', 'holds a list, not a JSON object'),
        ('[' * 100_000, 'is not valid JSON'),
        ('\xff', 'is not valid JSON'),
    ],
)
def test_no_json_object_is_one_line_that_names_the_file(text, reason, tmp_path):
    path = tmp_path / 'a.json'
    path.write_bytes(text.encode('latin-1'))
    with pytest.raises(ValueError, match=reason) as error:
        read_json(path)
    assert str(path) in str(error.value) and '\n' not in str(error.value)


def test_files_are_written_without_torch_and_networks_come_on_use():
    code = (
        'import sys, backbones.files, comad.runs.record\n'
        "print('torch' in sys.modules, 'mmengine' in sys.modules)\n"
        'from backbones import MaskedViT\n'
        'from mmengine.registry import MODELS\n'
        "print(MODELS.get('MaskedViT') is MaskedViT)\n"
    )
    run = [sys.executable, '-W', 'ignore', '-c', code]
    result = subprocess.run(run, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert result.stdout.split() == ['False', 'False', 'True'], result.stderr[-2000:]
