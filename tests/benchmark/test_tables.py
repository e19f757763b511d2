"""The benchmark of tables: its records are ones that count, and every part is measured."""

import itertools

import pytest

from comad.benchmark.tables import SEEDS, made_up
from comad.leaderboard.tables import make_leaderboards
from comad.runs.record import write_record
from comad.tasks.task import TASKS
from tests.calls import call


def test_made_up_records_are_admitted_and_ranked(tmp_path):
    number = 2 * len(TASKS) * SEEDS
    for record in itertools.islice(made_up(), number):
        assert 3000 < write_record(tmp_path, record).stat().st_size < 6000
    boards = make_leaderboards(records=tmp_path)
    assert (len(boards.records), boards.refused) == (number, [])
    for table in boards.tables.values():
        ranked = table[table['kind'] == 'measured']
        assert len(ranked) and (ranked['rank'] == '1').all() and ranked['tie'].all()


def test_every_part_is_measured_and_the_whole_is_longer_than_its_parts():
    done = call('benchmark', 'tables', '--records', 30, '--rounds', 1)
    title, *lines = done.stdout.splitlines()
    assert done.returncode == 0 and title.startswith('30 records, 1 rounds')
    seconds = [float(line.rsplit(None, 2)[1]) for line in lines]
    assert 'leaderboard' in lines[0] and len(lines) == 5 and seconds[0] > sum(seconds[2:])


@pytest.mark.parametrize('option', ['--records', '--rounds'])
def test_nothing_to_measure_is_an_error(option):
    done = call('benchmark', 'tables', option, 0)
    assert done.returncode == 2 and f'{option} is 0' in done.stderr
