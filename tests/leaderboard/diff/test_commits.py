"""Two commits: rows of the tables kept in git, configs and code, without a checkout."""

import csv
import subprocess
from pathlib import Path

import pytest

from comad.leaderboard.diff.compare import compare
from comad.leaderboard.diff.names import UnknownName
from comad.leaderboard.diff.text import format_commits
from comad.leaderboard.tables import COLUMNS
from comad.runs.record import write_record
from tests.leaderboard.examples import make_record

STUDY = ('student', 'task', 'metric', 'pool', 'mean', 'sd', 'n')
BOARD = 'results/leaderboard_classification.csv'


def git(*arguments):
    options = ('-c', 'user.name=t', '-c', 'user.email=t@t', '-c', 'commit.gpgsign=false')
    command = ['git', *options, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write(path, columns, rows):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w', newline='') as stream:
        writer = csv.DictWriter(stream, columns, lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)


def commit(message):
    git('add', '--all')
    git('commit', '--quiet', '--allow-empty', '--message', message)


def board(method, value, **cells):
    row = dict.fromkeys(COLUMNS, '')
    return row | {'method': method, 'metric': 'top1', 'kind': 'measured', 'value': value} | cells


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git('init', '--quiet', '--initial-branch', 'main')
    seeds = {'sd': '1.00', 'n': '3'}
    write(BOARD, COLUMNS, [board('a', '50.00', rank='1', **seeds), board('b', '40.00')])
    first = {'student': 'a_tiny', 'task': 'linear', 'metric': 'top1', 'pool': 'cls'}
    write('results/sample_study.csv', STUDY, [{**first, 'mean': '50.00', **seeds}])
    commit('first')
    write(BOARD, COLUMNS, [board('a', '51.60', rank='2', **seeds), board('c', '40.00')])
    study = [{**first, 'mean': '51.70', **seeds, 'pretrain_tflop': '2'}]
    write('results/sample_study.csv', (*STUDY, 'pretrain_tflop'), study)
    write_record('results/records', make_record({'top1_mean': 51.0}))
    Path('cls_configs').mkdir()
    Path('cls_configs/linear_a_tiny.py').write_text('lr = 1\nlength = 2\n')
    commit('second')
    Path('comad').mkdir()
    Path('comad/new.py').write_text('import os\n')
    commit('third')


def test_rows_ranks_and_noise():
    found = compare('HEAD~2', 'HEAD')
    tables = {table.name: table for table in found.tables}
    table = tables[BOARD]
    assert [row['method'] for row in table.added] == ['c']
    assert [row['method'] for row in table.removed] == ['b']
    (change,) = table.changed
    assert change.cells == {'rank': ('1', '2'), 'value': ('50.00', '51.60')}
    # 2 sqrt(1 / 3 + 1 / 3) = 1.633
    assert change.difference == pytest.approx(1.6) and not change.beyond_noise
    study = tables['results/sample_study.csv']
    assert study.changed[0].beyond_noise and study.changed[0].noise == pytest.approx(
        1.633, abs=1e-3
    )
    assert study.changed[0].cells == {'mean': ('50.00', '51.70')}
    assert study.notes == ['columns gained: pretrain_tflop']
    (record,) = tables['results/records'].added
    assert record == {'record': 'linear_comad_tiny_p0_s0.json', 'top1_mean': '51.00'}
    text = format_commits(found)
    assert 'rank 1 -> 2; value 50.00 -> 51.60 (+1.60, within noise, bound 1.63)' in text
    assert not found.equal


def test_configs_and_code_are_counted_by_folder():
    found = compare('HEAD~2', 'main')
    folders = {f.name: (f.files, f.added, f.removed) for f in found.folders}
    assert folders['cls_configs'] == (1, 2, 0) and folders['comad'] == (1, 1, 0)
    assert found.configs == ['cls_configs/linear_a_tiny.py']


def test_code_alone_leaves_two_commits_equal():
    found = compare('HEAD~1', 'HEAD')
    assert found.equal and [f.name for f in found.folders] == ['comad']


def test_a_record_measured_again():
    write_record('results/records', make_record({'top1_mean': 53.0}))
    commit('again')
    (table,) = compare('HEAD~1', 'HEAD').tables
    assert table.changed[0].cells == {'top1_mean': ('51.00', '53.00')}


def test_rows_of_one_name_stay_apart():
    write(BOARD, COLUMNS, [board('a', '1'), board('a', '2')])
    commit('twice')
    write(BOARD, COLUMNS, [board('a', '3'), board('a', '2')])
    commit('one of them')
    (table,) = compare('HEAD~1', 'HEAD').tables
    assert [change.cells for change in table.changed] == [{'value': ('1', '3')}]
    assert table.changed[0].noise is None and table.changed[0].beyond_noise is None


def test_a_path_wins_unless_commits_are_asked_for():
    name = 'linear_comad_tiny'
    git('branch', name, 'HEAD~2')
    assert compare(name, name).records[0] == ['linear_comad_tiny_p0_s0.json']
    assert not compare(name, 'HEAD', commits=True).equal
    git('branch', 'comad', 'HEAD')
    assert compare('comad', 'HEAD').equal
    with pytest.raises(ValueError, match='is a run and HEAD is a commit'):
        compare('HEAD', name)


def test_unknown_commits_are_named_with_near_ones():
    with pytest.raises(UnknownName, match='maim is no commit; near names: main'):
        compare('maim', 'HEAD', commits=True)
    with pytest.raises(UnknownName, match='no commit'):
        compare('--output=x', 'HEAD', commits=True)
    assert not Path('x').exists()
