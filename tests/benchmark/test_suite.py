"""The suite of measurements: its order, its clock, its file and its tables."""

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

import pytest
import torch

from comad.benchmark.suite import command, growth, parts
from comad.benchmark.suite.parts import Part
from comad.commands.benchmark import main
from comad.runs.place import FILES


def suite(path, *options):
    return main(['suite', '--sample', '--device', 'cpu', '--out', str(path), *map(str, options)])


def fake(monkeypatch, **measures):
    monkeypatch.setattr(parts, 'PARTS', {name: Part(1, call) for name, call in measures.items()})


def test_parts_become_a_file_and_the_file_becomes_tables(tmp_path, capsys):
    """By the command: a process that has computed with several threads cannot be forked."""
    path = tmp_path / 'deep' / 'here.json'
    tool = [sys.executable, str(FILES / 'tools/benchmark.py'), 'suite', '--sample']
    options = ['--device', 'cpu', '--minutes', '2', '--out', path]
    options += ['--parts', 'machine', 'comad', 'runner']
    core = {min(os.sched_getaffinity(0))}  # threads on cores that other tests use wait for them
    done = subprocess.run(
        [*tool, *map(str, options)],
        capture_output=True,
        text=True,
        preexec_fn=partial(os.sched_setaffinity, 0, core),
    )
    assert done.returncode == 0, done.stderr
    for number, name in enumerate(('machine', 'comad', 'runner'), 1):
        assert f'{number} of 3 {name}: done' in done.stdout
    found = json.loads(path.read_text())
    assert found['sample'] and found['conditions']['versions']['torch']
    assert list(found['parts']) == ['machine', 'comad', 'runner']
    step = found['parts']['comad']['figures']['40/60/80']
    assert set(step['seconds_per_step']) == {'step', 'teachers alone', 'reference'}
    assert 0 < step['largest_difference_float32'] < 1e-5
    assert main(['show', str(path)]) == 0
    shown = capsys.readouterr().out
    rate = median(8 / seconds for seconds in step['seconds_per_step']['step'])
    assert f'| {rate:.{0 if rate >= 100 else 1}f} (' in shown
    assert found['conditions']['git_commit'][:7] in shown and 'Large matrix products' in shown
    trained = found['parts']['runner']['figures']['crops in memory']
    step, bare = trained['seconds_per_step'], median(trained['bare_seconds_per_step'])
    figures = f'{1000 * step:.1f} | {1000 * bare:.1f} | {100 * (step / bare - 1):+.1f} % |'
    assert f'| crops in memory | 0 | {figures}' in shown
    assert f'| {1000 * bare:.1f} |' in shown.partition('JPEG in shards')[2]


def test_parts_that_are_not_measured_again_stay(tmp_path, capsys, monkeypatch):
    path = tmp_path / 'here.json'
    fake(
        monkeypatch,
        one=lambda case: case.keep('x', 1),
        two=lambda case: case.keep('x', case.known['one']['figures']['x'] + 1),
    )
    assert suite(path) == 0
    fake(monkeypatch, one=lambda case: case.keep('x', 5), two=lambda case: None)
    assert suite(path, '--parts', 'one') == 0
    kept = json.loads(path.read_text())['parts']
    assert {name: part['figures'] for name, part in kept.items()} == {
        'one': {'x': 5},
        'two': {'x': 2},
    }


def test_a_part_ends_at_its_time_and_keeps_what_it_has(tmp_path, capsys, monkeypatch):
    def slow(case):
        case.keep('first', 1)
        time.sleep(60)

    monkeypatch.setattr(command, 'LEAST', 0.2)
    monkeypatch.setattr(command, 'GRACE', 0.5)
    fake(monkeypatch, slow=slow, quick=lambda case: case.keep('second', 2))
    path, began = tmp_path / 'here.json', time.monotonic()
    assert suite(path, '--minutes', 0.05) == 0
    assert time.monotonic() - began < 30
    found = json.loads(path.read_text())['parts']
    assert found['slow']['state'] == 'ended at its time'
    assert found['slow']['figures'] == {'first': 1}
    assert found['quick']['figures'] == {'second': 2}
    assert main(['show', str(path)]) == 0
    assert 'Not complete: slow: ended at its time.' in capsys.readouterr().out


def test_one_part_that_fails_or_cannot_run_stops_no_other(tmp_path, capsys, monkeypatch):
    def broken(case):
        raise ValueError('this one')

    def absent(case):
        import mmsomething  # noqa: F401

    def dies(case):
        import os

        os._exit(3)

    fake(monkeypatch, broken=broken, absent=absent, dies=dies, good=lambda case: None)
    path = tmp_path / 'here.json'
    assert suite(path) == 1
    states = {name: part['state'] for name, part in json.loads(path.read_text())['parts'].items()}
    assert states == {
        'broken': 'failed: ValueError: this one',
        'absent': 'skipped: no mmsomething',
        'dies': 'failed: its process ended with 3',
        'good': 'done',
    }
    assert 'raise ValueError' in capsys.readouterr().out


def test_evaluations_are_measured_against_stock_ones_with_equal_figures(tmp_path, capsys):
    kept = {}
    case = parts.Case(torch.device('cpu'), True, time.monotonic() + 3, {}, kept.__setitem__)
    parts.PARTS['evaluation'].measure(case)
    assert list(kept) == ['knn', 'miou', 'coco']
    assert all(
        set(kept[name]['seconds_per_step']) == {'step', 'reference'}
        for name in kept
        if name != 'knn'
    )
    path = tmp_path / 'here.json'
    where = dict(device='here', cpu='one', threads=1, versions=dict(torch='2', timm='1'))
    part = dict(state='done', figures=kept)
    path.write_text(
        json.dumps(dict(schema=1, sample=True, conditions=where, parts=dict(evaluation=part)))
    )
    assert main(['show', str(path)]) == 0
    assert '| mIoU, 512 x 683 pixels of 150 classes | ' in capsys.readouterr().out


def test_clips_and_commands_are_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(parts, 'STARTED', ('data.py --help',))
    fake(monkeypatch, clips=parts.clips, start_up=parts.start_up)
    path = tmp_path / 'here.json'
    assert suite(path, '--minutes', 1.5) == 0
    found = {name: part['figures'] for name, part in json.loads(path.read_text())['parts'].items()}
    ways = {way['way']: way for way in found['clips']['ways']}
    assert {'mp4, opencv', 'folders of frames'} <= set(ways)
    seconds = found['start_up']['seconds']
    assert set(seconds) == {'import torch', 'data.py --help'}
    assert all(0 < value < 60 for values in seconds.values() for value in values)
    capsys.readouterr()
    assert main(['show', str(path)]) == 0
    shown = capsys.readouterr().out
    assert f'| mp4, opencv | {ways["mp4, opencv"]["images_per_second"]:.0f} (' in shown
    assert f'| `data.py --help` | {median(seconds["data.py --help"]):.1f} (' in shown


def test_what_grows_is_measured_in_one_process_and_in_two(tmp_path, capsys):
    path = tmp_path / 'here.json'
    assert suite(path, '--parts', 'growth', '--minutes', 0.2) == 0
    part = json.loads(path.read_text())['parts']['growth']
    found = part['figures']
    evaluations = ('k-NN', 'mIoU', 'AP of boxes and masks')
    processes = [f'{name}, {of}' for name in evaluations for of in ('one process', 'each of two')]
    assert list(found)[:6] == processes
    assert {'class folders listed at a start', 'a checkpoint of 1 MB', 'report'} < set(found)
    assert all(0 < seconds < 60 for figure in found.values() for seconds in figure['seconds'])
    # A serialised copy is what a checkpoint takes beside the weights.
    assert found['a checkpoint of 1 MB']['megabytes'] > 1
    capsys.readouterr()
    assert main(['show', str(path)]) == 0
    assert '| k-NN, each of two | 100 queries, 2,000 images | ' in capsys.readouterr().out


def test_evaluations_in_processes_have_to_come_to_equal_figures(tmp_path):
    told = []
    assert growth.together(1, lambda rank, world: lambda: 7, tmp_path, told).seconds > 0
    with pytest.raises(RuntimeError, match=r'different figures: \[7, 7, 8\]'):
        growth.together(2, lambda rank, world: lambda: 7 + rank, tmp_path, told)
    with pytest.raises(RuntimeError, match='a process of an evaluation failed'):
        growth.together(2, lambda rank, world: lambda: 1 // rank, tmp_path, [])


def test_what_a_part_has_started_ends_with_it(tmp_path, capsys, monkeypatch):
    """Data workers would else live on for seconds, while the next part is timed."""
    note = tmp_path / 'pid'

    def leaves(case):
        started = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
        note.write_text(str(started.pid))

    fake(monkeypatch, leaves=leaves)
    assert suite(tmp_path / 'here.json') == 0
    state = Path(f'/proc/{note.read_text()}/stat')
    end = time.monotonic() + 5
    while state.exists() and state.read_text().split()[2] != 'Z' and time.monotonic() < end:
        time.sleep(0.05)
    assert not state.exists() or state.read_text().split()[2] == 'Z'


def test_a_command_that_is_ended_leaves_nothing_behind(tmp_path):
    kept = tmp_path / 'kept'
    kept.mkdir()
    tool = [sys.executable, str(FILES / 'tools/benchmark.py'), 'suite', '--sample']
    options = ['--parts', 'growth', '--out', str(tmp_path / 'here.json')]
    command = subprocess.Popen(
        [*tool, *options],
        env={**os.environ, 'TMPDIR': str(kept), 'PYTHONUNBUFFERED': '1'},
        stdout=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not list(kept.glob('*/comad-benchmark-*')) and time.monotonic() < end:
        time.sleep(0.05)
    of_it = Path(f'/proc/{command.pid}/task/{command.pid}/children')
    (part,) = of_it.read_text().split()
    command.terminate()
    assert command.wait(30) == 128 + 15
    assert not list(kept.glob('comad-benchmark-*'))
    assert not Path(f'/proc/{part}').exists()


def test_older_parts_stay_until_they_are_measured_again(tmp_path, capsys, monkeypatch):
    path = tmp_path / 'here.json'
    fake(monkeypatch, one=lambda case: case.keep('x', 1), two=lambda case: case.keep('x', 2))
    assert suite(path) == 0
    monkeypatch.setattr(command, 'LEAST', 1000)
    fake(monkeypatch, one=lambda case: case.keep('x', 3), two=lambda case: case.keep('x', 4))
    assert suite(path) == 0  # time is left for the first alone
    kept = json.loads(path.read_text())['parts']
    assert {name: part['figures']['x'] for name, part in kept.items()} == {'one': 3, 'two': 2}


@pytest.mark.parametrize('content', ['{bad', '[1]', '{"schema": 1}', '{"schema": 1, "parts": {}}'])
def test_a_file_of_something_else_is_not_written_over(content, tmp_path, capsys, monkeypatch):
    fake(monkeypatch, one=lambda case: None)
    path = tmp_path / 'other.json'
    path.write_text(content)
    assert suite(path) == 2 and path.read_text() == content
    error = capsys.readouterr().err
    assert 'other.json holds no parts to keep' in error and error.count('\n') == 1


def test_what_a_part_prints_is_shown_where_it_fails(tmp_path, capfd, monkeypatch):
    def loud(case):
        os.write(1, b'line of a part')

    def failing(case):
        os.write(2, b'line of a failing part\n')
        raise ValueError('this one')

    fake(monkeypatch, loud=loud, failing=failing)
    assert suite(tmp_path / 'here.json') == 1
    printed = capfd.readouterr()
    assert 'line of a part' not in printed.out + printed.err
    assert 'line of a failing part' in printed.out and 'ValueError: this one' in printed.out


def test_what_needs_a_gpu_says_so(tmp_path, capsys):
    path = tmp_path / 'here.json'
    assert suite(path, '--parts', 'overlap') == 0
    assert 'overlap: skipped: no GPU' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['suite', '--minutes', '0'], '--minutes 0: expected more than 0'),
        (['suite', '--minutes', 'inf'], '--minutes inf: expected more than 0, and an end'),
        (['suite', '--out', '.'], '--out . is a folder: expected a file'),
        (['suite', '--parts', 'all'], '--parts all: expected some of machine, comad,'),
        (['show', 'FILE'], 'is no file of `benchmark.py suite`'),
        (['show', 'none.json'], 'none.json: no such file or directory; files of suites: results'),
        (['suite', '--parts', 'machine', '--out', 'FILE'], 'holds no parts to keep'),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, capsys):
    path = tmp_path / 'other.json'
    path.write_text('{"schema": 99}')
    assert main([str(path) if one == 'FILE' else one for one in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1


def test_the_page_shows_the_committed_files(capsys):
    assert main(['show']) == 0
    page = (Path(__file__).parents[2] / 'docs/performance.md').read_text()
    block = page.partition('<!-- suite:begin -->\n')[2].partition('\n<!-- suite:end -->')[0]
    assert block + '\n' == capsys.readouterr().out
