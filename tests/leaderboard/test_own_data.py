"""Rows on data of one's own: groups by name and digest, and no place beside the public ones."""

from pathlib import Path

import msgspec

from comad.commands.leaderboard import main
from comad.leaderboard.admission import out_of_place
from comad.leaderboard.tables import figures
from comad.runs.record import Record, seal
from tests.leaderboard.examples import make_data, make_record


def own(name='My photos', manifest='e' * 64) -> Record:
    record = make_record({'top1_cls': 50.0, 'top1_mean': 50.0})
    data = {
        key: make_data(name, split, images=9, classes=3, manifest=manifest)
        for key, split in (('dataset', 'val'), ('train_dataset', 'train'))
    }
    facts = {**msgspec.to_builtins(record), **data}
    del facts['schema'], facts['digest']
    return seal(facts)


def test_own_data_have_no_place_in_public_tables_nor_those_in_theirs():
    public = make_record({'top1_cls': 50.0, 'top1_mean': 50.0})
    assert out_of_place(public, 'full') == out_of_place(own(), 'full', 'my_photos') == ''
    assert "not on 'imagenet-1k': in no table of full scale" in out_of_place(own(), 'full')
    assert 'in no table of full scale on data my_photos' in out_of_place(
        public, 'full', 'my_photos'
    )
    assert "on 'Others'" in out_of_place(own('Others'), 'full', 'my_photos')
    assert 'not of' not in out_of_place(own(), 'full', 'my_photos')
    assert out_of_place(own(), 'sample', 'my_photos')  # a record of full scale


def test_other_contents_under_the_same_name_are_another_group():
    found = figures([own(), own(manifest='f' * 64)])
    groups = found.groupby(['dataset', 'data', 'metric', 'pool']).ngroups
    assert groups == 2 * found.groupby(['metric', 'pool']).ngroups


def test_the_hint_for_data_without_rows_is_a_command_that_works(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['--data', 'photos']) == 2
    assert capsys.readouterr().err.endswith('no run on such data has left any\n')
    for folder in ('results/sample/own/photos/records', 'results/own/pets/records'):
        Path(folder).mkdir(parents=True)
    for typed, hints in (
        ('--data photos', [' --sample --data photos', ' --data pets']),
        ('verify --sample --data pets', [' verify --data pets', ' verify --sample --data photos']),
        ('report --data pots', [' report --data pets', ' report --sample --data photos']),
    ):
        assert main(typed.split()) == 2
        (line,) = capsys.readouterr().err.splitlines()
        commands = line.partition('; there is: ')[2].split(', ')
        assert commands == [f'python tools/leaderboard.py{hint}' for hint in hints]
        for command in commands:
            assert main(command.split()[2:]) == 0, command
    capsys.readouterr()
