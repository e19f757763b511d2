"""tools/setup.sh: what it installs, when it does nothing, and how it diagnoses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from comad.commands._environment import Requirement, diagnose, read_pins, requirements

ROOT = Path(__file__).resolve().parents[2]


def pip_calls(machine) -> list[str]:
    return [call.split('-c constraints.txt ')[-1] for call in machine.calls('-m pip install')]


def test_installs_in_order_then_does_nothing(machine):
    done = machine.run('setup.sh')
    assert done.returncode == 0, done.stderr
    steps = done.stdout.splitlines()
    assert [line.split()[0] for line in steps] == [f'[{k}/6]' for k in range(1, 7)] + ['ready:']
    assert 'mmcv' in steps[2] and 'takes some minutes' in steps[2]
    calls = pip_calls(machine)
    assert calls[0].startswith('pip ') and calls[1].startswith('torch torchvision ')
    assert calls[2].startswith('--no-build-isolation mmcv ')
    assert 'timm>=' in calls[3] and 'mmdet>=' in calls[3] and 'pytest>=' in calls[3]
    assert calls[4].startswith('--no-deps --no-build-isolation -e . ')
    assert len(calls) == 5

    again = machine.run('setup.sh')
    assert again.stdout.startswith('ready: ') and len(again.stdout.splitlines()) == 1
    assert machine.run('setup.sh', '--extras', 'core').stdout == again.stdout
    assert len(pip_calls(machine)) == 5


@pytest.mark.parametrize('name', ['constraints.txt', 'setup.cfg'])
def test_a_changed_set_is_installed_again(machine, name):
    machine.run('setup.sh')
    with (machine.repository / name).open('a') as file:
        file.write('\n# changed\n')
    assert '[6/6]' in machine.run('setup.sh').stdout


def test_core_compiles_nothing_and_extras_add_up(machine):
    machine.variables['CXX'] = 'no-such-compiler'
    assert '[5/5]' in machine.run('setup.sh', '--extras', 'core').stdout
    assert not any('mmcv' in call or 'pytest' in call for call in pip_calls(machine))
    done = machine.run('setup.sh', '--extras=dev')
    assert done.returncode == 0 and 'extras dev,core' in done.stdout
    assert machine.run('setup.sh', '--extras', 'core,dev').stdout.startswith('ready: ')


def test_ops_that_do_not_run_are_built_anew(machine):
    (machine.environment / 'ops_fail').touch()
    done = machine.run('setup.sh', '--extras', 'dense')
    assert done.returncode == 0, done.stderr
    assert 'built anew' in done.stdout
    (rebuild,) = [call for call in pip_calls(machine) if '--no-cache-dir' in call]
    options = '--no-build-isolation --no-cache-dir --force-reinstall --no-deps mmcv '
    assert rebuild.startswith(options)


def test_cuda_ops_come_with_the_first_gpu(machine):
    """They need an nvcc of torch's CUDA version; without it the environment stays as it is."""
    machine.run('setup.sh')
    machine.set_gpus(1)
    machine.program('nvcc', 'echo "Cuda compilation tools, release 12.4, V12.4.1"')
    assert machine.run('setup.sh').stdout.startswith('ready: ')
    machine.program('nvcc', 'echo "Cuda compilation tools, release 13.0, V13.0.88"')
    done = machine.run('setup.sh')
    assert done.returncode == 0, done.stderr
    built = [call for call in machine.calls('-m pip install') if ' mmcv ' in call]
    assert ['CUDA= ' in call for call in built] == [True, False]
    assert 'CUDA=1 ' in built[1] and machine.calls('_environment.py ops cuda')
    assert machine.run('setup.sh').stdout.startswith('ready: ')


def test_failure_names_step_and_log_and_leaves_no_stamp(machine):
    (machine.environment / 'pip_fails').touch()
    done = machine.run('setup.sh')
    assert done.returncode != 0
    assert 'no such wheel' in done.stderr
    assert done.stderr.splitlines()[-1].startswith('error: set-up stopped at "environment ')
    (machine.environment / 'pip_fails').unlink()
    assert '[6/6]' in machine.run('setup.sh').stdout


@pytest.mark.parametrize('check', [(), ('--check',)])
def test_missing_things_are_named_and_nothing_is_made(machine, check):
    machine.program('broken', 'echo "command not found" >&2; exit 127')
    machine.program('new', 'echo 3.13.0')
    absent = machine.folder / 'absent'
    machine.variables |= {
        'COMAD_VENV': str(absent), 'PYTHON': 'broken new gone', 'CXX': 'no-such-compiler',
    }  # fmt: skip
    machine.program('git', 'exit 127')
    done = machine.run('setup.sh', *check)
    assert done.returncode == 1
    missing = [line for line in done.stdout.splitlines() if line.startswith('missing ')]
    assert 'broken: does not start; new: is 3.13.0; gone: not found' in missing[0]
    assert any('git' in line for line in missing) and any('C++17' in line for line in missing)
    assert not absent.exists()


def test_a_folder_with_other_files_is_left_alone(machine):
    (machine.folder / 'home').mkdir()
    (machine.folder / 'home' / 'letter.txt').write_text('dear')
    machine.variables['COMAD_VENV'] = str(machine.folder / 'home')
    done = machine.run('setup.sh')
    assert done.returncode == 1 and 'other files' in done.stdout
    assert os.listdir(machine.folder / 'home') == ['letter.txt']


@pytest.mark.parametrize('arguments', [('--extras', 'all'), ('--extras',), ('--verbose',)])
def test_wrong_arguments(machine, arguments):
    done = machine.run('setup.sh', *arguments)
    assert done.returncode == 1 and done.stderr.startswith('error: ')
    assert len(done.stderr.splitlines()) == 1 and machine.calls('pip') == []


def test_check_approves_the_environment_of_the_tests():
    done = subprocess.run(
        ['bash', str(ROOT / 'tools' / 'setup.sh'), '--check'],
        env=os.environ | {'COMAD_VENV': sys.prefix},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mmcv's ops run on the CPU" in done.stdout


def test_every_requirement_is_pinned_within_its_range():
    pins = read_pins()
    needs = [Requirement(line) for line in requirements(['dense', 'dev'])]
    assert {'torch', 'mmcv', 'pytest'} <= {need.name for need in needs}
    for need in needs:
        (pin,) = pins[need.name].specifier
        assert pin.operator == '==' and need.specifier.contains(pin.version), need.name


def test_pins_follow_the_interpreter(tmp_path):
    path = tmp_path / 'constraints.txt'
    path.write_text(
        "# set\nnew==2  # why\nnew==1; python_version < '3'\nold==1; python_version < '3'\n"
    )
    assert {name: str(pin.specifier) for name, pin in read_pins(path).items()} == {'new': '==2'}


def test_diagnosis_names_a_wrong_version(monkeypatch):
    monkeypatch.setattr(
        'tools._environment.installed_version', lambda name: None if name == 'timm' else '0.1'
    )
    texts = [text for kind, text in diagnose(['core']) if kind == 'missing']
    assert 'torch==2.11.0 (installed: 0.1)' in texts
    assert any(text.startswith('timm==') and 'installed' not in text for text in texts)
