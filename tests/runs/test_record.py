"""Records: what is kept, what is refused, and that nothing half-written is ever seen."""

import json
import subprocess
import sys

import msgspec
import pytest

from comad.runs.record import (
    MAX_BYTES,
    RecordError,
    encode,
    read_record,
    read_records,
    seal,
    write_record,
)
from tests.leaderboard.examples import changed, forge, make_record


def test_written_record_is_read_back_whole(tmp_path):
    record = make_record({'accuracy/top1_cls': 43.5, 'top1_mean': 51.25, 'top5_mean': 80.0})
    path = write_record(tmp_path, record)
    assert path.name == record.file == 'linear_comad_tiny_p0_s0.json'
    assert path.stat().st_size < MAX_BYTES
    accepted, refused = read_records(tmp_path)
    assert refused == [] and accepted == [record] == [read_record(path)]
    assert record.metrics == {'top1_cls': 43.5, 'top1_mean': 51.25}
    assert record.other_metrics == {'top5_mean': 80.0}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_bytes_follow_from_the_contents_alone():
    record = make_record({'top1_mean': 51.25, 'top1_cls': 43.5})
    contents = json.loads(encode(record))
    assert forge(contents) == encode(record)
    for part in (contents, contents['metrics'], contents['protocol']['fields']):
        entries = list(part.items())
        part.clear()
        part.update(reversed(entries))
    assert encode(seal(contents)) == encode(record)


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'seeds__pretrain': 'x'}, 'Expected int, got str - at $.seeds.pretrain'),
        ({'seeds__transfer': -1}, 'Expected int >= 0 - at $.seeds.transfer'),
        ({'seeds__pretrain': 10**400}, 'Expected int <= 9223372036854775807'),
        ({'seeds__pretrain': True}, 'Expected int, got bool - at $.seeds.pretrain'),
        ({'metrics__top1_mean': -1.0}, 'Expected float >= 0.0 - at $.metrics[...]'),
        ({'metrics__top1_mean': 10**400}, 'Number out of range - at $.metrics[...]'),
        ({'metrics__top1_mean': float('nan')}, 'Expected float >= 0.0 - at $.metrics[...]'),
        ({'metrics': {}}, 'neither a metric nor a reason for its absence'),
        ({'wall_seconds': float('inf')}, 'Expected float, got null - at $.wall_seconds'),
        ({'student__params_m': True}, 'Expected float | null, got bool - at $.student.params_m'),
        ({'student__architecture': {'depths': {'a': 1}}}, 'at $.student.architecture[...]'),
        ({'student__architecture': {'x': float('nan')}}, 'holds a number that is not finite'),
        ({'protocol__fields__length': float('inf')}, 'holds a number that is not finite'),
        ({'student__name': '../evil_tiny'}, 'Expected str matching regex'),
        ({'student__name': 'comad_tiny\n'}, 'Expected str matching regex'),
        ({'student__arch': '\x1b[31m'}, 'Expected str matching regex'),
        ({'config__source': '\ud800'}, 'surrogates not allowed'),
        ({'cost__device_kind': 'tpu'}, "Invalid enum value 'tpu' - at $.cost.device_kind"),
        ({'cost__unit': 'word'}, "Invalid enum value 'word' - at $.cost.unit"),
        ({'cost__processes': 0}, 'Expected int >= 1 - at $.cost.processes'),
        ({'dataset__images': '50'}, 'Expected int, got str - at $.dataset.images'),
        ({'environment__notes': 'x'}, 'Object contains unknown field notes - at $.environment'),
        ({'schema': True}, 'Expected int, got bool - at $.schema'),
        ({'environment__cpu': 'y' * MAX_BYTES}, "largest part is 'environment'"),
    ],
)
def test_a_field_out_of_its_type_or_range_is_named_by_its_place(changes, reason):
    with pytest.raises(RecordError) as error:
        changed(make_record({'top1_mean': 50.0}), **changes)
    assert reason in str(error.value) and '\n' not in str(error.value)


def test_a_record_that_was_not_sealed_is_not_written(tmp_path):
    record = make_record({'top1_mean': 50.0})
    for unsound in (
        msgspec.structs.replace(record, task='../../evil'),
        msgspec.structs.replace(record, wall_seconds=float('nan')),
        msgspec.structs.replace(record, images_seen=1),
    ):
        with pytest.raises(RecordError):
            write_record(tmp_path / 'records', unsound)
    assert not (tmp_path / 'records').exists()


def test_an_architecture_of_any_kind_is_kept():
    swin = {'embed_dim': 96, 'depths': [2, 2, 6, 2], 'window': 7, 'ape': False, 'norm': None}
    record = changed(make_record({'top1_mean': 1.0}), student__architecture=swin)
    assert record.student.architecture == swin


def test_bad_files_are_refused_by_name_and_the_others_stay(tmp_path):
    record = make_record({'top1_mean': 50.0})
    good = write_record(tmp_path, record)
    text = good.read_text()

    def put(name, contents):
        (tmp_path / name).write_bytes(
            contents if isinstance(contents, bytes) else contents.encode()
        )

    def without(name):
        return {key: value for key, value in msgspec.to_builtins(record).items() if key != name}

    put('._hidden.json', b'\x00\x05')  # as some file systems leave beside every file
    put('a_truncated.json', text[:500])
    put('b_edited.json', text.replace('50.0', '99.0'))
    put('c_copied.json', text)
    put('d_nan.json', text.replace('50.0', 'NaN'))
    put('e_schema.json', forge({**msgspec.to_builtins(record), 'schema': 99}))
    put('f_earlier.json', forge({**msgspec.to_builtins(record), 'schema': 3}))
    put('g_large.json', text + ' ' * MAX_BYTES)
    put('h_list.json', '[]')
    put('i_spaces.json', text.replace('"seeds": ', '"seeds":  '))
    put('j_binary.json', b'\x00\x01')
    put('k_absent.json', forge(without('seeds')))
    put('l_type.json', forge({**msgspec.to_builtins(record), 'wall_seconds': 'long'}))
    (tmp_path / 'm_link.json').symlink_to(good)
    put('n_twice.json', text.replace('"top1_mean": 50.0', '"top1_mean": 1.0,\n  "top1_mean": 50.0'))
    put('o_unknown.json', forge({**msgspec.to_builtins(record), 'note': 'trust me'}))
    put('notes.txt', 'not looked at')
    accepted, refused = read_records(tmp_path)
    assert accepted == [record]
    again = 'made by an earlier version; run it again with tools/train.py cls_configs/linear_comad'
    expected = [
        ('a_truncated', 'not valid JSON'),
        ('b_edited', 'was the file edited?'),
        ('c_copied', 'holds the record linear_comad_tiny_p0_s0.json'),
        ('d_nan', 'not valid JSON'),
        ('e_schema', 'schema 99 is not 4'),
        ('f_earlier', f'schema 3 is not 4: {again}'),
        ('g_large', 'are the limit'),
        ('h_list', 'Expected object, got array'),
        ('i_spaces', 'is not what is written for its contents; was the file edited?'),
        ('j_binary', 'not valid JSON'),
        ('k_absent', 'Object missing required field seeds'),
        ('l_type', 'Expected float, got str - at $.wall_seconds'),
        ('m_link', 'not a plain file'),
        ('n_twice', 'is not what is written for its contents; was the file edited?'),
        ('o_unknown', 'Object contains unknown field note'),
    ]
    assert len(refused) == len(expected)
    for line, (name, reason) in zip(refused, expected, strict=True):
        assert name in line and reason in line and '\n' not in line


def test_a_failing_write_leaves_the_old_record_and_no_rest(tmp_path, monkeypatch):
    path = write_record(tmp_path, make_record({'top1_mean': 1.0}))
    before = path.read_bytes()

    def fail(*_):
        raise OSError('disk full')

    monkeypatch.setattr('os.replace', fail)
    with pytest.raises(OSError, match='disk full'):
        write_record(tmp_path, make_record({'top1_mean': 2.0}))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_records_and_tables_need_no_torch():
    code = (
        'import sys, comad.runs.record, comad.runs.card, comad.runs.questions\n'
        'import comad.commands.leaderboard, comad.commands.sweep\n'
        'assert "pandas" not in sys.modules, "a second of every --help"\n'
        'import comad.leaderboard.tables, comad.leaderboard.study, comad.leaderboard.outputs\n'
        'import comad.runs.environment as e; e.collect_environment()\n'
        'assert not {"torch", "mmengine", "timm"} & set(sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
