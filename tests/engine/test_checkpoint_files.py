"""Files on disk: whole or not there, the newest complete one found, nothing lost to a full disk."""

import errno
import hashlib
import os
import subprocess
import sys

import pytest
import torch

from backbones import CheckpointError
from backbones.checkpoints import read_checkpoint
from comad.engine import checkpoint_files
from comad.engine.checkpoint_files import (
    clean_up,
    damage,
    last_checkpoint,
    newest_valid,
    point_to,
    write_verified,
)


def save(path, value):
    torch.save(dict(value=torch.full((64,), float(value))), path)
    content = path.read_bytes()
    path.unlink()
    write_verified(path, content)
    return path


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    """Change one bit of the tensor; releases of torch pad between records, where nothing counts."""
    content = bytearray(path.read_bytes())
    content[content.index(read_checkpoint(path)['value'].numpy().tobytes())] ^= 1
    path.write_bytes(content)


HARMS = [truncate, flip, lambda path: path.unlink(), lambda path: path.write_bytes(b'')]


@pytest.fixture
def folder(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path / f'epoch_{step}.pth', step)
    save(tmp_path / 'best_top1.pth', 9)
    save(tmp_path / 'mae_pretrain_vit_base.pth', 9)
    point_to(tmp_path, ['epoch_3.pth', 'epoch_2.pth'])
    return tmp_path


def test_the_digest_is_the_one_of_sha256sum(folder):
    done = subprocess.run(['sha256sum', '-c', 'epoch_3.pth.sha256'], cwd=folder, check=True)
    assert done.returncode == 0
    assert newest_valid(folder) == (folder / 'epoch_3.pth', [])


@pytest.mark.parametrize('harm', HARMS)
@pytest.mark.parametrize('digests', [True, False])
def test_the_newest_complete_one_is_found(folder, harm, digests):
    if not digests:  # checkpoints from before there were digests
        for path in folder.glob('*.sha256'):
            path.unlink()
    harm(folder / 'epoch_3.pth')
    path, problems = newest_valid(folder)
    assert path.name == 'epoch_2.pth'
    assert len(problems) == 1 and 'epoch_3.pth is ' in problems[0]
    with pytest.raises(CheckpointError, match='points to epoch_3.pth, which is'):
        last_checkpoint(folder)


def test_no_complete_one_is_an_error_and_none_at_all_is_not(folder, tmp_path_factory):
    for path in folder.glob('epoch_*.pth'):
        truncate(path)
    with pytest.raises(CheckpointError, match='nothing to resume from: .*epoch_3.*epoch_1') as told:
        newest_valid(folder)
    assert '\n' not in str(told.value) and 'best' not in str(told.value)
    assert newest_valid(tmp_path_factory.mktemp('empty')) == (None, [])


def test_without_pointer_names_tell_the_order(folder):
    save(folder / 'epoch_3_iter_14.pth', 4)
    save(folder / 'epoch_10.pth', 5)
    (folder / 'last_checkpoint').unlink()
    path, problems = newest_valid(folder)
    assert path.name == 'epoch_10.pth' and 'last_checkpoint is missing' in problems[0]
    path.unlink()
    assert newest_valid(folder)[0].name == 'epoch_3_iter_14.pth'


def test_an_earlier_runs_file_does_not_come_before_the_own_ones(folder):
    save(folder / 'epoch_90.pth', 90)
    truncate(folder / 'epoch_3.pth')
    assert newest_valid(folder)[0].name == 'epoch_2.pth'


@pytest.mark.parametrize('recorded', [True, False])
def test_replacing_has_no_moment_without_a_valid_file(folder, monkeypatch, recorded):
    """At every write, sync and rename the file is complete, and known to be."""
    path, moments = folder / 'epoch_3.pth', []
    if not recorded:
        (folder / 'epoch_3.pth.sha256').unlink()

    def watch(name):
        real = getattr(os, name)

        def watched(*args):
            moments.append(damage(path))
            real(*args)
            moments.append(damage(path))

        monkeypatch.setattr(os, name, watched)

    watch('fsync')
    watch('replace')
    save_again = path.read_bytes() + b' '  # other bytes, still checked by digest only
    write_verified(path, save_again)
    assert len(moments) > 10 and set(moments) == {None}
    assert (folder / 'epoch_3.pth.sha256').read_text().count('\n') == 1
    assert path.read_bytes() == save_again
    flip(path)
    assert 'is damaged' in damage(path)


def test_a_full_disk_leaves_everything_as_it_was(folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint_files.os, 'fsync', full)
    with pytest.raises(CheckpointError) as told:
        write_verified(folder / 'epoch_4.pth', b'x' * 2_000_000)
    text = str(told.value)
    assert str(folder) in text and '2.0 MB needed' in text and 'MB free' in text
    assert 'No space left on device' in text and '\n' not in text
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_disk_that_takes_only_a_part(folder):
    """The operating system itself refuses: a limit on file size in a process of its own."""
    code = (
        'import resource, sys; from comad.engine.checkpoint_files import write_verified\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n'
        'write_verified(sys.argv[1], b"x" * 100_000)'
    )
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    command = [sys.executable, '-c', code, str(folder / 'epoch_3.pth')]
    done = subprocess.run(command, capture_output=True, text=True)
    assert 'CheckpointError: epoch_3.pth cannot be written' in done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_killed_save_is_cleaned_up(folder):
    orphan = folder / 'epoch_4.pth.sha256'
    orphan.write_text(f'{hashlib.sha256(b"x").hexdigest()}  epoch_4.pth\n')
    temporary = folder / '.epoch_4.pth.node1.4711.tmp'
    temporary.write_bytes(b'half')
    mine = folder / '.notes.tmp'
    mine.write_text('')
    assert set(clean_up(folder)) == {orphan, temporary}
    assert not orphan.exists() and not temporary.exists() and mine.exists()
    assert read_checkpoint(last_checkpoint(folder))['value'][0] == 3
