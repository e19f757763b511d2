"""The grid runner on tiny shell commands: order, skipping, resuming, failing, interrupting."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from comad.sweep.runner import Sweep
from comad.sweep.step import Step, SweepError, read_stamp


def shell(name, script, outputs=(), **options):
    return Step(name, ('sh', '-c', script), tuple(outputs or (f'{name}.out',)), **options)


def note(name, **options):
    """A step that appends its name to `trace` and writes its output."""
    return shell(name, f'echo {name} >> trace; echo {name} > {name}.out', **options)


@pytest.fixture
def make(tmp_path):
    def build(*steps, **options):
        lines = []
        sweep = Sweep('grid', steps, tmp_path, 'state', report=lines.append, **options)
        sweep.lines = lines
        return sweep

    return build


def trace(folder):
    path = folder / 'trace'
    return path.read_text().split() if path.exists() else []


def test_runs_in_order_and_skips_what_is_done(make, tmp_path):
    steps = note('a'), note('b', needs=('a',)), note('c', needs=('b',))
    first = make(*steps)
    assert first.run().done == ['a', 'b', 'c']
    assert trace(tmp_path) == ['a', 'b', 'c']
    assert first.lines[0].startswith('[1/3] a: started, about ')
    assert first.lines[1] == '[1/3] a: done in 0 s'
    assert (tmp_path / 'state/grid/a.log').read_text().startswith('$ sh -c ')
    second = make(*steps)
    outcome = second.run()
    assert outcome.skipped == ['a', 'b', 'c'] and outcome.complete and not outcome.done
    assert second.lines == [f'[{i}/3] {name}: up to date' for i, name in enumerate('abc', 1)]
    assert trace(tmp_path) == ['a', 'b', 'c']


def test_early_steps_come_before_long_chains(make, tmp_path):
    steps = note('long', seconds=90), note('behind', needs=('long',)), note('soon', early=True)
    sweep = make(*steps, slots=1, tells=lambda step: '48.3' if step.early else '')
    assert sweep.run().done == ['soon', 'long', 'behind']
    assert sweep.lines[1] == '[1/3] soon: done in 0 s: 48.3'
    assert sweep.lines[3] == '[2/3] long: done in 0 s'


def test_an_unknown_step_to_redo_leaves_the_others_alone(make):
    sweep = make(note('a'), note('b'))
    assert sweep.run().complete
    with pytest.raises(SweepError, match='has no step nothing'):
        sweep.forget(['a', 'nothing'])
    assert make(note('a'), note('b')).run().skipped == ['a', 'b']


def test_a_dry_run_of_a_redo_lists_it_and_forgets_nothing(make):
    steps = note('a'), note('b', needs=('a',)), note('c')
    assert make(*steps).run().complete
    dry = make(*steps)
    dry.forget(['a'], stamps=False)
    assert [step.name for step in dry.pending()] == ['a', 'b']
    assert make(*steps).run().skipped == ['a', 'b', 'c']


def test_a_changed_command_reruns_the_step_and_what_reads_it(make, tmp_path):
    assert make(note('a'), note('b', needs=('a',)), note('c')).run().complete
    changed = shell('a', 'echo a2 >> trace; echo other > a.out')
    assert make(changed, note('b', needs=('a',)), note('c')).run().done == ['a', 'b']
    assert trace(tmp_path)[3:] == ['a2', 'b']


def test_equal_outputs_leave_later_steps_alone(make):
    steps = note('a'), note('b', needs=('a',))
    assert make(*steps).run().complete
    again = make(*steps)
    again.forget(['a'])
    outcome = again.run()
    assert outcome.done == ['a'] and outcome.skipped == ['b']


def test_a_changed_config_or_base_reruns_the_step(make, tmp_path):
    (tmp_path / 'leaf.py').write_text('x = 1\n')
    step = note('a', sources=('leaf.py',))
    assert make(step).run().done == ['a']
    assert make(step).run().skipped == ['a']
    (tmp_path / 'leaf.py').write_text('x = 2\n')
    assert make(step).run().done == ['a']


@pytest.mark.parametrize('damage', ['delete', 'empty'])
def test_a_lost_output_reruns_the_step(make, tmp_path, damage):
    assert make(note('a')).run().complete
    output = tmp_path / 'a.out'
    output.unlink() if damage == 'delete' else output.write_text('')
    assert make(note('a')).run().done == ['a']


def test_failure_names_step_log_and_last_lines_and_stops(make, tmp_path):
    bad = shell('bad', 'seq 1 40; echo the reason >&2; exit 3', needs=('a',))
    sweep = make(note('a'), bad, note('later', needs=('bad',)), slots=1)
    outcome = sweep.run()
    assert (outcome.failed, outcome.not_run) == (['bad'], ['later'])
    assert not outcome.complete
    text = '\n'.join(sweep.lines)
    assert '[2/3] bad: FAILED (exit 3) after 0 s' in text
    assert '    40\n    the reason\n    the whole log: state/grid/bad.log' in text
    assert '    20\n' not in text
    assert 'later' not in trace(tmp_path)
    # Resuming starts at the failed step.
    fixed = make(note('a'), note('bad', needs=('a',)), note('later', needs=('bad',)), slots=1)
    outcome = fixed.run()
    assert (outcome.skipped, outcome.done) == (['a'], ['bad', 'later'])


def test_success_without_the_promised_output_is_a_failure(make):
    sweep = make(shell('a', 'true'))
    assert sweep.run().failed == ['a']
    assert 'FAILED (did not write a.out)' in sweep.lines[1]


def test_keep_going_runs_what_does_not_need_the_failed_step(make):
    steps = (
        shell('bad', 'exit 1'),
        note('behind', needs=('bad',)),
        note('a'),
        note('b', needs=('a',)),
    )
    outcome = make(*steps, keep_going=True, slots=1).run()
    assert outcome.failed == ['bad'] and outcome.not_run == ['behind']
    assert sorted(outcome.done) == ['a', 'b']


def test_without_keep_going_a_failure_ends_the_step_beside_it(make, tmp_path):
    slow = shell('slow', 'sleep 60; echo x > slow.out')
    started = time.monotonic()
    outcome = make(shell('bad', 'sleep 0.2; exit 1'), slow).run()
    assert time.monotonic() - started < 60  # what waiting for it would take
    assert outcome.failed == ['bad'] and outcome.not_run == ['slow']
    assert not (tmp_path / 'state/stamps/slow.json').exists()


def test_two_steps_run_side_by_side_with_one_thread_each(make, tmp_path):
    # Each waits for the other: one after the other would never end.
    script = (
        'echo $OMP_NUM_THREADS $MKL_NUM_THREADS > {0}.out; touch {0}.up;'
        'for i in $(seq 100); do test -e {1}.up && exit 0; sleep 0.05; done; exit 1'
    )
    steps = [shell('x', script.format('x', 'y')), shell('y', script.format('y', 'x'))]
    assert make(*steps, slots=2).run().complete
    assert (tmp_path / 'x.out').read_text() == '1 1\n'


def test_the_longest_chain_is_started_first(make, tmp_path):
    steps = [
        note('short', seconds=10),
        note('head', seconds=5),
        note('tail', seconds=100, needs=('head',)),
    ]
    assert make(*steps, slots=1).run().complete
    assert trace(tmp_path) == ['head', 'tail', 'short']


def test_stamps_are_shared_between_grids(tmp_path):
    for grid, expected in (('one', ['a']), ('two', [])):
        outcome = Sweep(grid, [note('a')], tmp_path, 'state').run()
        assert outcome.done == expected


def test_measured_seconds_and_memory_are_kept(make, tmp_path):
    outcome = make(shell('a', 'sleep 0.3; echo > a.out', seconds=0.1)).run()
    timings = read_stamp(tmp_path / 'state/timings.json')
    assert timings['a'] >= 0.3
    assert outcome.peak_mb > 0
    # Measured 3 times slower than expected: what is left is scaled.
    sweep = make(shell('a', 'true', seconds=0.1), note('b', seconds=10))
    sweep.forget([])
    assert sweep.time_left() == pytest.approx(10 * timings['a'] / 0.1)


def test_bad_grids_are_refused(make):
    with pytest.raises(SweepError, match='two steps of grid are called a'):
        make(note('a'), note('a'))
    with pytest.raises(SweepError, match='b needs a, which is not before it'):
        make(note('b', needs=('a',)), note('a'))
    with pytest.raises(SweepError, match='no step z'):
        make(note('a')).forget(['z'])


CHILD = textwrap.dedent("""
    import signal, sys
    from pathlib import Path
    from comad.sweep.runner import Sweep
    from comad.sweep.step import Step, SweepError
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    steps = [
        Step('a', ('sh', '-c', 'echo > a.out'), ('a.out',)),
        Step('b', ('sh', '-c', 'echo $$ > b.pid; sleep 60 & wait'), ('b.out',), ('a',)),
    ]
    try:
        Sweep('grid', steps, Path.cwd(), Path('state'), report=print).run()
    except KeyboardInterrupt:
        sys.exit(130)
    except SweepError as error:
        sys.exit(str(error))
""")


def alive(group):
    """Members of a process group that still run; ended ones may wait for their reaper."""
    found = []
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            state, _, pgrp = path.read_text().rpartition(')')[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state != 'Z':
            found.append(path.parent.name)
    return found


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interruption_ends_the_steps_and_leaves_a_resumable_state(tmp_path, number):
    root = os.path.abspath('.')
    environment = {**os.environ, 'PYTHONPATH': root}
    command = [sys.executable, '-c', CHILD]
    # Tests started in the background inherit an ignored SIGINT; a user's terminal does not.
    sweep = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    pid_file = tmp_path / 'b.pid'
    deadline = time.monotonic() + 50
    while not (pid_file.exists() and pid_file.read_text().strip()):
        assert time.monotonic() < deadline and sweep.poll() is None
        time.sleep(0.05)
    assert alive(int(pid_file.read_text()))
    # A second sweep on the same folder is refused while the first one runs.
    second = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert second.returncode == 1 and 'another sweep (grid, process' in second.stderr
    sweep.send_signal(number)
    assert sweep.wait(timeout=50) == 130  # the step itself would take 60
    assert alive(int(pid_file.read_text())) == []
    stamps = sorted(p.name for p in (tmp_path / 'state/stamps').iterdir())
    assert stamps == ['a.json']
    assert not (tmp_path / 'b.out').exists()
    steps = [Step('a', ('sh', '-c', 'echo > a.out'), ('a.out',)), note('b', needs=('a',))]
    outcome = Sweep('grid', steps, tmp_path, 'state').run()
    assert outcome.skipped == ['a'] and outcome.done == ['b']
