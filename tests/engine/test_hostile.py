"""Hostile files: nothing in them runs, and each is refused with one line."""

import functools
import io
import json
import os
import pickle
import struct
import subprocess
import tarfile
import zipfile

import pytest
import torch

import comad.engine.register  # noqa: F401
from backbones import CheckpointError, MaskedViT, build_teacher, save_student
from backbones.checkpoints import read_card, read_checkpoint
from backbones.files import sha256_of
from comad.data.shards import scan_shard
from comad.engine.checkpoint_files import last_checkpoint
from comad.leaderboard.admission import read_admitted
from comad.runs.record import RecordError, seal, write_record
from tests.engine.toy import run, toy_config
from tests.leaderboard.examples import forge, make_record


class Call:
    """Calls ``function`` when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def raw(module, name, argument):
    """A pickle of protocol 2 that imports anything by name and calls it."""
    return b'\x80\x02c' + f'{module}\n{name}\nV{argument}\n'.encode() + b'\x85R.'


def gadgets(canary):
    from torch.storage import _load_from_bytes

    write = f'open({str(canary)!r}, "w")'
    inner = io.BytesIO()
    torch.save(Call(eval, write), inner)
    return {
        'os.system': Call(os.system, f'touch {canary}'),
        'eval': Call(eval, write),
        'exec': Call(exec, write),
        'open': Call(open, str(canary), 'w'),
        'partial': Call(functools.partial(os.system), f'touch {canary}'),
        'reduce': Call(functools.reduce, eval, [write, {}]),
        'storage': Call(_load_from_bytes, inner.getvalue()),
        'getattr': Call(getattr, torch.storage.UntypedStorage, 'from_file'),
        'map': Call(list, Call(map, eval, [write])),
        'subprocess': Call(subprocess.check_output, ['touch', str(canary)]),
        'torch.load': Call(torch.load, str(canary)),
        'key': {Call(os.system, f'touch {canary}'): 1},
    }


RAW = {
    'os': ('os', 'system', 'touch {}'),
    'posix': ('posix', 'system', 'touch {}'),
    'numpy': ('numpy.testing._private.utils', 'runstring', 'open("{}", "w")'),
    'numpy_load': ('numpy', 'load', '{}'),
    'builtins': ('builtins', '__import__', 'antigravity'),
    'py2': ('__builtin__', 'eval', 'open("{}", "w")'),
    'dotted': ('torch', 'os.system', 'touch {}'),
}


def refused(path, canary):
    """The one line with which a checkpoint is refused."""
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(path)
    assert not canary.exists()
    assert str(path) in str(error.value) and '\n' not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize('name', gadgets('x'))
@pytest.mark.parametrize('form', ['zip', 'legacy', 'pickle'])
def test_no_gadget_runs(tmp_path, name, form):
    canary, path = tmp_path / 'canary', tmp_path / 'hostile.pth'
    content = {'model': gadgets(canary)[name], 'weight': torch.ones(2)}
    if form == 'pickle':
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == 'zip')
    refused(path, canary)


@pytest.mark.parametrize('name', RAW)
@pytest.mark.parametrize('packed', [False, True])
def test_no_import_by_name_runs(tmp_path, name, packed):
    canary, path = tmp_path / 'canary', tmp_path / 'hostile.pth'
    module, function, argument = RAW[name]
    data = raw(module, function, argument.format(canary))
    if packed:
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('archive/data.pkl', data)
            archive.writestr('archive/version', '3\n')
    else:
        path.write_bytes(data)
    assert 'refused' in refused(path, canary)


def test_a_hostile_file_is_refused_wherever_weights_are_read(tmp_path):
    canary, path = tmp_path / 'canary', tmp_path / 'hostile.pth'
    torch.save({'state_dict': Call(os.system, f'touch {canary}')}, path)
    with pytest.raises(CheckpointError, match='refused'):
        build_teacher('mae', path, arch='sample_base')
    student = save_student(tmp_path / 's', MaskedViT('sample_tiny'), dict(name='t', track='sample'))
    hostile = student.with_name('hostile.pth')
    hostile.write_bytes(path.read_bytes())
    student.write_bytes(path.read_bytes())
    card = student.with_name('student.json')
    card.write_text(json.dumps({**json.loads(card.read_text()), 'sha256': sha256_of(path)}))
    for file, reason in ((student, 'not a readable safetensors'), (hostile, 'refused')):
        init_cfg = dict(type='StudentWeights', checkpoint=str(file), track='sample')
        with pytest.raises(CheckpointError, match=reason):
            MaskedViT('sample_tiny', init_cfg=init_cfg).init_weights()
    for number, changes in enumerate((dict(resume=True), dict(load_from=str(path)))):
        work_dir = tmp_path / f'run{number}'
        work_dir.mkdir()
        (work_dir / 'epoch_1.pth').write_bytes(path.read_bytes())
        (work_dir / 'last_checkpoint').write_text(f'{work_dir}/epoch_1.pth')
        with pytest.raises(CheckpointError, match='refused'):
            run(toy_config(work_dir, experiment_name=f'hostile{number}', **changes))
    assert not canary.exists()


def test_a_config_inside_of_a_checkpoint_is_not_run(tmp_path):
    """MMEngine reads ``meta.config`` of a resumed checkpoint as Python."""
    canary = tmp_path / 'canary'
    run(toy_config(tmp_path / 'run', epochs=1, experiment_name='before'))
    path = last_checkpoint(tmp_path / 'run')
    content = read_checkpoint(path)
    content['meta']['config'] = f'a = open({str(canary)!r}, "w")'
    torch.save(content, path)
    path.with_name(f'{path.name}.sha256').unlink()
    run(toy_config(tmp_path / 'run', epochs=2, experiment_name='after', resume=True))
    assert not canary.exists()


@pytest.mark.parametrize(
    'content',
    [
        {'w': torch.ones(1)},
        {'state_dict': {}, 'message_hub': 3, 'meta': []},
        {'state_dict': [1], 'meta': {}},
    ],
)
def test_a_file_of_another_kind_cannot_be_resumed_from(tmp_path, content):
    torch.save(content, tmp_path / 'other.pth')
    options = dict(resume=True, load_from=str(tmp_path / 'other.pth'), experiment_name='other')
    with pytest.raises(CheckpointError, match=r'other\.pth is no checkpoint of this run') as error:
        run(toy_config(tmp_path / 'run', **options))
    assert '\n' not in str(error.value)


def repack(source, target, change=lambda name, data: data, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, 'w', method) as new:
        for record in old.infolist():
            new.writestr(record.filename, change(record.filename, old.read(record)))


def test_archives_that_lie_about_their_size_are_refused(tmp_path):
    whole = tmp_path / 'whole.pth'
    torch.save({'w': torch.zeros(1_000_000)}, whole)
    repack(whole, tmp_path / 'bomb.pth', method=zipfile.ZIP_DEFLATED)
    assert (tmp_path / 'bomb.pth').stat().st_size < 10_000
    assert 'is compressed' in refused(tmp_path / 'bomb.pth', tmp_path / 'canary')

    # Directory entries that all point at the same bytes.
    data = whole.read_bytes()
    end = data.rindex(b'PK\x05\x06')
    fields = list(struct.unpack('<4s4H2LH', data[end : end + 22]))
    start, length = data.index(b'PK\x01\x02'), fields[5]
    directory = data[start : start + length]
    fields[3:6] = [count * 50 for count in fields[3:5]] + [length * 50]
    fields[6] = start
    (tmp_path / 'overlap.pth').write_bytes(
        data[:start] + directory * 50 + struct.pack('<4s4H2LH', *fields)
    )
    refused(tmp_path / 'overlap.pth', tmp_path / 'canary')

    small = tmp_path / 'small.pth'
    torch.save({'w': torch.zeros(16)}, small)

    def claim(name, content):  # 4,096 numbers instead of 16
        return content.replace(b'K\x10', b'M\x00\x10') if name.endswith('data.pkl') else content

    repack(small, tmp_path / 'numel.pth', claim)
    refused(tmp_path / 'numel.pth', tmp_path / 'canary')
    torch.save({'w': Call(bytearray, 10**18)}, tmp_path / 'memory.pth')
    refused(tmp_path / 'memory.pth', tmp_path / 'canary')


def test_old_formats(tmp_path):
    path = tmp_path / 'legacy.pth'
    torch.save({'w': torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    assert read_checkpoint(path)['w'].tolist() == [1, 1]
    path.write_bytes(path.read_bytes()[:-4])
    refused(path, tmp_path / 'canary')
    (tmp_path / 'pickle').write_bytes(pickle.dumps({'w': Call(eval, '1')}))
    for name in ('storages', 'PK', '\x80\x02'):
        with tarfile.open(tmp_path / 'tar.pth', 'w', encoding='latin-1') as tar:
            tar.add(tmp_path / 'pickle', arcname=name)
        refused(tmp_path / 'tar.pth', tmp_path / 'canary')
    for data in (b'', b'PK', b'\x80\x02', b'PK\x03\x04' + bytes(99), b'\x80\x02' + b'(' * 9999):
        (tmp_path / 'rest.pth').write_bytes(data)
        refused(tmp_path / 'rest.pth', tmp_path / 'canary')


@pytest.mark.parametrize(
    'header',
    [
        {'w': {'dtype': 'F32', 'shape': [2**40], 'data_offsets': [0, 2**42]}},
        {'w': {'dtype': 'F32', 'shape': [4], 'data_offsets': [0, 8]}},
        {'w': {'dtype': 'F32', 'shape': [-1], 'data_offsets': [0, 4]}},
        {'w': {'dtype': 'OBJECT', 'shape': [1], 'data_offsets': [0, 4]}},
        [1],
        None,
    ],
)
def test_safetensors_with_a_lying_header(tmp_path, header):
    text = json.dumps(header).encode()
    length = 2**62 if header is None else len(text)
    path = tmp_path / 'x.safetensors'
    path.write_bytes(struct.pack('<Q', length) + text + bytes(8))
    refused(path, tmp_path / 'canary')


@pytest.mark.parametrize('text', [b'', b'..', b'/', b'\xff\0', b'../../etc/passwd'])
def test_a_pointer_never_leaves_its_folder(tmp_path, text):
    (tmp_path / 'last_checkpoint').write_bytes(text)
    with pytest.raises(CheckpointError, match='last_checkpoint'):
        last_checkpoint(tmp_path)


def nested(depth):
    return '[' * depth + ']' * depth


def test_hostile_records_are_refused_one_by_one(tmp_path):
    good = write_record(tmp_path, make_record({'top1_mean': 51.25}))
    text = good.read_text()

    def edited(name, **changes):
        (tmp_path / f'{name}.json').write_bytes(forge({**json.loads(text), **changes}))

    for depth in (300, 900, 1000, 3000):
        deep = text.rstrip()[:-1] + f', "x": {nested(depth)}}}'
        (tmp_path / f'deep{depth}.json').write_text(deep)
    (tmp_path / 'only.json').write_text(nested(4000))
    (tmp_path / 'nan.json').write_text(
        text.replace('"wall_seconds": ', '"wall_seconds": NaN, "y":')
    )
    (tmp_path / 'huge.json').write_text(' ' * 10_000 + text)
    (tmp_path / 'link.json').symlink_to('/etc/hostname')
    (tmp_path / 'folder.json').mkdir()
    (tmp_path / 'bytes.json').write_bytes(b'\xff\xfe\0')
    edited('task', task='../../linear')
    edited('student', student={**json.loads(text)['student'], 'name': '../../evil'})
    edited('number', metrics=dict.fromkeys(json.loads(text)['metrics'], 10**400))
    edited('seed', seeds={'pretrain': 10**400, 'transfer': 0})
    edited('copy')
    before = {path.name for path in tmp_path.parent.iterdir()}
    records = read_admitted(tmp_path)
    assert [record.file for record in records.accepted] == [good.name]
    assert len(records.refused) == len(list(tmp_path.glob('*.json'))) - 1
    assert all('\n' not in line for line in records.refused)
    assert {path.name for path in tmp_path.parent.iterdir()} == before
    with pytest.raises(RecordError):
        record = json.loads(text)
        record['student']['name'] = '../evil_tiny'
        seal(record)


def test_a_nested_card_is_refused(tmp_path):
    (tmp_path / 'student.json').write_text(nested(200_000))
    with pytest.raises(CheckpointError, match='not valid JSON'):
        read_card(tmp_path / 'student.json')


@pytest.mark.parametrize('name', ['/etc/x.jpg', '../x.jpg', 'a/../../x.jpg'])
def test_members_of_shards_stay_inside(tmp_path, name):
    with tarfile.open(tmp_path / 'a.tar', 'w') as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(ValueError, match='points outside'):
        scan_shard(tmp_path / 'a.tar')
