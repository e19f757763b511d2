"""``leaderboard.py verify``: through the command line, on a small world of records and files."""

import csv
import hashlib
import io
import json
import os
import shutil
from types import SimpleNamespace

import pytest

from comad.commands.leaderboard import main
from comad.runs.place import PUBLISHED_CSV
from comad.runs.record import MAX_BYTES, read_record, resolved_name, write_record
from comad.tasks.recording import build_record
from tests.leaderboard.examples import (
    ENVIRONMENT,
    changed,
    forge,
    make_card,
    make_config,
    make_data,
)

RESULTS = PUBLISHED_CSV.parent.resolve()
STUDENTS = ('comad_tiny', 'mae_tiny')


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def add_run(root, student, seed):
    """A finished linear probe: student, data manifest, checkpoint, resolved config and record."""
    data = root / 'data/imagenet'
    data.mkdir(parents=True, exist_ok=True)
    manifest = {'name': 'imagenet', 'format': 1, 'digest': 'd' * 64, 'content_hashed': True}
    (data / 'manifest.json').write_text(json.dumps(manifest))
    weights = root / f'work_dirs/pretrain/{student}/seed{seed}/student.safetensors'
    weights.parent.mkdir(parents=True)
    weights.write_text(f'weights of {student} {seed}')
    config = make_config('linear', student, seed, seed)
    config['work_dir'] = f'work_dirs/linear/{student}/seed{seed}'
    run = root / config['work_dir']
    run.mkdir(parents=True)
    (run / 'epoch_90.pth').write_text(f'checkpoint of {student} {seed}')
    resolved = run / 'resolved_linear.py'
    resolved.write_text(
        'train_cfg = dict(max_epochs=90)\ntrain_dataloader = dict(dataset=dict('
        f"root='data/imagenet', type='ImageNetFolder'))\nseed = {seed}\n"
    )
    record = build_record(
        config,
        {'top1_mean': 50.0 + seed + STUDENTS.index(student)},
        make_card(student, seed, sha256=sha256(weights)),
        ENVIRONMENT,
        dataset=make_data(),
        train_dataset=make_data(split='train'),
        wall_seconds=12.5,
        images_seen=1000,
        checkpoint={'file': 'epoch_90.pth', 'sha256': sha256(run / 'epoch_90.pth')},
        resolved_sha256=sha256(resolved),
    )
    assert resolved_name(record.task) == resolved.name
    return write_record(root / 'results/records', record)


@pytest.fixture
def world(tmp_path, monkeypatch, capsys):
    """A repository with six runs and the tables made of them; ``run`` calls the tool in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'results').mkdir()
    for name in ('published.csv', 'sample_study.csv', 'sample_ablations.csv'):
        shutil.copy(RESULTS / name, tmp_path / 'results')
    paths = [add_run(tmp_path, student, seed) for student in STUDENTS for seed in range(3)]

    def run(*arguments):
        code = main(['--published', 'results/published.csv', *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    assert run('--quiet')[0] == 0
    table = tmp_path / 'results/leaderboard_classification.csv'
    return SimpleNamespace(root=tmp_path, run=run, records=paths, table=table)


def edit(path, change, digest=True):
    """Change a record's file, by default with a digest that fits."""
    record = json.loads(path.read_text())
    change(record)
    content = forge(record) if digest else json.dumps(record, indent=1).encode() + b'\n'
    path.write_bytes(content)


def measured(path):
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    return {row['method']: row for row in rows if row['kind'] == 'measured'}


def test_a_sound_world_is_verified(world):
    code, out, err = world.run('verify')
    assert (code, err) == (0, '')
    assert 'records: 6 records read, 0 refused' in out and 'note:' not in out
    for what in ('student files', 'checkpoints', 'resolved configs', 'data manifests'):
        assert f'{what}: 6 checked, 0 not on this machine' in out
    assert 'leaderboard_classification.csv: up to date, 2 measured and 32 published' in out
    assert 'sample_study.csv: ' in out and 'each agrees' in out
    assert out.endswith('verified: nothing is refused and every table is up to date\n')


def test_nothing_is_written(world):
    before = {p: p.stat().st_mtime_ns for p in world.root.rglob('*')}
    world.table.write_text('stale')
    before[world.table] = world.table.stat().st_mtime_ns
    assert world.run('verify')[0] == 1
    assert {p: p.stat().st_mtime_ns for p in world.root.rglob('*')} == before


def test_files_of_another_machine_are_counted(world):
    shutil.rmtree(world.root / 'work_dirs/pretrain/mae_tiny')
    shutil.rmtree(world.root / 'work_dirs/linear/comad_tiny/seed0')
    code, out, _ = world.run('verify')
    assert code == 0
    assert 'student files: 3 checked, 3 not on this machine' in out
    for what in ('checkpoints', 'resolved configs', 'data manifests'):
        assert f'{what}: 5 checked, 1 not on this machine' in out


@pytest.mark.parametrize(
    ('file', 'field'),
    [
        ('linear/comad_tiny/seed1/epoch_90.pth', 'checkpoint.sha256'),
        ('linear/comad_tiny/seed1/resolved_linear.py', 'config.resolved_sha256'),
        ('pretrain/comad_tiny/seed1/student.safetensors', 'student.sha256'),
    ],
)
def test_a_file_that_is_another_one_is_refused(world, file, field):
    (world.root / 'work_dirs' / file).write_text('something else')
    code, out, err = world.run('verify')
    assert code == 1 and 'up to date' in out
    (line,) = [line for line in err.splitlines() if line.startswith('refused')]
    assert line.startswith(f'refused: linear_comad_tiny_p1_s1.json: {field} is ')
    assert 'not verified: 1 refused, 0 stale' in err


def test_a_checkpoint_digest_that_the_file_has_not(world):
    edit(world.records[4], lambda r: r['checkpoint'].update(sha256='0' * 64))
    assert world.run('--quiet')[0] == 0  # the record alone is sound: the file decides
    code, _, err = world.run('verify')
    assert code == 1 and 'linear_mae_tiny_p1_s1.json: checkpoint.sha256 is 000000000000' in err


def test_data_with_another_manifest_are_a_note(world):
    path = world.root / 'data/imagenet/manifest.json'
    path.write_text(path.read_text().replace('d' * 64, 'f' * 64))
    code, out, _ = world.run('verify')
    assert code == 0 and out.count('its data manifest is dddddddddddd, the data here') == 6


def by_hand(world):
    edit(world.records[0], lambda r: r['metrics'].update(top1_mean=99.0), digest=False)
    return world.records[0].name, 'was the file edited?'


def copied(world):
    path = world.records[0].with_name('linear_comad_tiny_p9_s9.json')
    shutil.copy(world.records[0], path)
    return path.name, 'holds the record linear_comad_tiny_p0_s0.json; was the file copied?'


def unknown_metric(world):
    edit(world.records[0], lambda r: r.update(metrics={'top1_best': 99.0, **r['metrics']}))
    return world.records[0].name, "unknown metric 'top1_best'"


def nan_metric(world):
    text = world.records[0].read_text()
    world.records[0].write_text(text.replace('"top1_mean": 50.0', '"top1_mean": NaN'))
    return world.records[0].name, 'not valid JSON'


def infinite_metric(world):
    text = world.records[0].read_text()
    world.records[0].write_text(text.replace('"top1_mean": 50.0', '"top1_mean": 1e999'))
    return world.records[0].name, 'Number out of range - at $.metrics'


def infinite_elsewhere(world):
    text = world.records[0].read_text()
    world.records[0].write_text(text.replace('"embed_dim": 192', '"embed_dim": -1e999'))
    return world.records[0].name, 'Number out of range - at $.student.architecture'


def repeated_key(world):
    twice = '"top1_mean": 1.0,\n  "top1_mean": 50.0'
    text = world.records[0].read_text()
    world.records[0].write_text(text.replace('"top1_mean": 50.0', twice))
    return world.records[0].name, 'is not what is written for its contents'


def earlier_schema(world):
    edit(world.records[0], lambda r: r.update(schema=3))
    again = 'run it again with tools/train.py cls_configs/linear_comad_tiny.py'
    return world.records[0].name, f'schema 3 is not 4: made by an earlier version; {again}'


def without_cost(world):
    edit(world.records[0], lambda r: r.pop('cost'))
    return world.records[0].name, 'Object missing required field cost'


def negative_cost(world):
    edit(world.records[0], lambda r: r['cost'].update(device_hours=-1.0))
    return world.records[0].name, 'Expected float >= 0.0 - at $.cost.device_hours'


def escape_codes(world):
    edit(world.records[0], lambda r: r['student'].update(method='\x1b[31m'))
    return world.records[0].name, 'Expected str matching regex'


def huge_number(world):
    edit(world.records[0], lambda r: r['student'].update(epochs=10**400))
    return world.records[0].name, 'Number out of range - at $.student.epochs'


def half_a_pair(world):
    text = world.records[0].read_text()
    world.records[0].write_text(
        text.replace('"method_version": "1"', '"method_version": "\\ud800"')
    )
    return world.records[0].name, 'not valid JSON'


def odd_teacher(world):
    edit(world.records[0], lambda r: r['student']['teachers'][0].update(family=3))
    return world.records[0].name, 'Expected str | null, got int - at $.student.teachers[0].family'


def nested(world):
    path = world.records[0].with_name('deep.json')
    path.write_text('[' * 4000 + ']' * 4000)
    return path.name, 'Expected object, got array'


def huge(world):
    path = world.records[0].with_name('huge.json')
    path.write_text(' ' * MAX_BYTES + world.records[0].read_text())
    return path.name, f'{MAX_BYTES} are the limit'


def link(world):
    path = world.records[0].with_name('link.json')
    path.symlink_to(world.records[0])
    return path.name, 'not a plain file'


def folder(world):
    path = world.records[0].with_name('x.json')
    path.mkdir()
    return path.name, 'not a plain file'


def odd_name(world):
    path = os.fsencode(world.records[0].with_name('odd'))
    with open(path + b'\n\xff.json', 'w') as stream:
        stream.write('{}')
    return 'odd \\udcff.json', 'schema None is not 4'


def no_source(world):
    path = world.root / 'results/published.csv'
    text = path.read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    rows[4]['source'] = ''
    with path.open('w', newline='') as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return 'published.csv', 'source is blank'


BAD = (
    by_hand, copied, unknown_metric, nan_metric, infinite_metric, infinite_elsewhere,
    repeated_key, earlier_schema, without_cost, negative_cost, escape_codes, huge_number,
    half_a_pair, odd_teacher, nested, huge, link, folder, odd_name,
    no_source,
)  # fmt: skip


@pytest.mark.parametrize('spoil', BAD, ids=lambda spoil: spoil.__name__)
def test_bad_input_is_refused_by_name_and_all_other_rows_are_built(world, spoil):
    name, reason = spoil(world)
    code, out, err = world.run()
    assert code == 1
    (line,) = err.splitlines()
    assert line.startswith('refused: ') and name in line and reason in line
    rows = measured(world.table)
    assert rows['mae']['value'] == '52.00' and rows['mae']['rank'] == '1'
    # The run that was spoilt is gone, its other seeds stay; a file beside it changes nothing.
    lost = name == world.records[0].name
    assert (rows['comad']['n'], rows['comad']['value']) == (
        ('2', '51.50') if lost else ('3', '51.00')
    )
    assert (rows['comad']['rank'] == '') == lost
    code, out, err = world.run('verify')
    assert code == 1 and 'not verified: 1 refused, 0 stale' in err
    assert f'{5 if lost else 6} records read' in out


def test_a_copy_under_another_student_name_costs_both(world):
    original = read_record(world.records[3])
    copy = changed(original, student__name='dmt_tiny', student__method='dmt')
    write_record(world.root / 'results/records', copy)
    code, _, err = world.run('--quiet')
    assert code == 1 and len(err.splitlines()) == 2
    assert all('dmt_tiny of pretraining seed 0 and mae_tiny' in line for line in err.splitlines())
    assert measured(world.table)['mae']['n'] == '2'


def test_a_stale_table_names_its_first_difference(world):
    lines = world.table.read_text().splitlines(keepends=True)
    world.table.write_text(''.join(lines).replace('52.00,1.00', '62.00,1.00'))
    code, _, err = world.run('verify')
    assert code == 1
    assert 'leaderboard_classification.csv, row 1 (mae, mae_linear, top1, mean)' in err
    assert "value is '62.00', the records and published figures give '52.00'" in err
    assert 'write it again with python tools/leaderboard.py\n' in err
    for text, reason in (
        (''.join(lines[:-1]), '33 rows, 34 are due'),
        (''.join(lines).replace('rank,', 'place,', 1), 'other columns'),
        (''.join(lines).replace('\n', '\r\n'), 'line ends or quotes differ'),
        ('', 'other columns'),
    ):
        world.table.write_text(text, newline='')
        code, _, err = world.run('verify')
        assert code == 1 and reason in err, reason
    world.table.unlink()
    code, _, err = world.run('verify')
    assert code == 1 and 'cannot be read (No such file' in err


def test_a_record_that_came_later_makes_the_table_stale(world):
    add_run(world.root, 'comad_tiny', 3)
    code, _, err = world.run('verify')
    assert code == 1 and "is '51.00', the records and published figures give '51.50'" in err
    assert world.run('--quiet')[0] == 0 and world.run('verify')[0] == 0


def test_missing_folders_are_named(world):
    for arguments, reason in (
        (('verify', '--sample'), 'results/sample/records is no folder of run records'),
        (('verify', '--records', 'nowhere'), 'nowhere is no folder of run records'),
        (('verify', '--out', 'nowhere'), 'nowhere is no folder of tables'),
        (('verify', '--published', 'nowhere.csv'), 'nowhere.csv'),
        # An option before the command counts as well.
        (('--records', 'nowhere', 'verify'), 'nowhere is no folder of run records'),
        (('--sample', 'verify'), 'results/sample/records is no folder of run records'),
    ):
        code, _, err = world.run(*arguments)
        assert code == 2 and reason in err and len(err.splitlines()) == 1


def test_a_table_that_comes_with_the_code_may_not_be_gone_others_may(world, monkeypatch):
    code, out, _ = world.run('verify')
    line = 'results/sample_video.csv: not there; python tools/sweep.py video --sample makes it'
    assert code == 0 and line in out.splitlines()
    monkeypatch.setattr('comad.runs.place.FILES', world.root)
    code, _, err = world.run('verify')
    assert code == 1 and f'stale: {line}, git restore brings it back' in err
    assert 'sample_distillation.csv: not there' in err and 'sample_study.csv' not in err


def test_a_home_without_anything_is_sound(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['verify']) == 0
    assert 'video.csv: not there; python tools/leaderboard.py makes it' in capsys.readouterr().out


def test_without_records_the_published_tables_are_verified(world):
    shutil.rmtree(world.root / 'results/records')
    assert world.run('verify')[0] == 1
    assert world.run('--quiet')[0] == 0
    code, out, _ = world.run('verify')
    assert code == 0 and 'no evaluation has been recorded yet' in out
    assert '0 measured and 32 published rows' in out and 'checked' not in out


def test_the_committed_tables_are_verified(capsys):
    assert main(['verify']) == 0, capsys.readouterr().err


@pytest.mark.parametrize(('name', 'old'), [('sample_study', ',3,'), ('sample_ablations', ',3,')])
def test_a_table_of_the_sample_that_does_not_agree_with_itself_is_stale(world, name, old):
    path = world.root / f'results/{name}.csv'
    path.write_text(path.read_text().replace(old, ',4,', 1))
    code, _, err = world.run('verify')
    assert code == 1 and f'stale: {name}.csv, row 1 (' in err
    assert 'n is 4, its values are 3' in err
