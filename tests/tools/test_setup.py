"""tools/setup.sh: what it installs, when it does nothing, and how it diagnoses."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import ANY

import pytest

from tools._environment import (
    Requirement,
    diagnose,
    needed,
    read_pins,
    requirements,
    uv_settings,
)

ROOT = Path(__file__).resolve().parents[2]


WRONG = [
    ('--extras', 'all'),
    ('--extras',),
    ('--python', '3.9'),
    ('--torch=1.13',),
    ('--torch', 'new'),
    ('--verbose',),
]


def installs(machine, installer: str = 'uv pip install') -> list[str]:
    """What was handed to uv or pip: everything behind the pins."""
    return [call.split('constraints.txt ')[-1] for call in machine.calls(installer)]


def test_installs_in_order_then_does_nothing(machine):
    done = machine.run('setup.sh')
    assert done.returncode == 0, done.stderr
    steps = done.stdout.splitlines()
    assert [line.split()[0] for line in steps] == [f'[{k}/5]' for k in range(1, 6)] + ['ready:']
    assert all(re.search(r'\.\.\. \d+ s$', line) for line in steps[:5])
    calls = installs(machine)
    assert calls[0].startswith('pip setuptools ')
    assert calls[1].startswith('torch torchvision ') and calls[2].startswith('torch torchvision ')
    assert all(need in calls[3] for need in ('timm>=', 'mmcv-lite>=', 'mmdet>=', 'pytest>='))
    assert calls[4].startswith('--force-reinstall --no-deps --no-build-isolation -e . ./ops ')
    assert len(calls) == 5 and not machine.calls('-m pip install')
    # The proof leaves bytecode behind, which uv does not, nor the questions before it.
    *asked, proof = machine.calls('tools/_environment.py')
    assert ' ops cpu' in proof and ' -B ' not in proof and all(' -B ' in call for call in asked)

    again = machine.run('setup.sh')
    assert again.stdout.startswith('ready: ') and len(again.stdout.splitlines()) == 1
    assert machine.run('setup.sh', '--extras', 'core').stdout == again.stdout
    assert len(installs(machine)) == 5


def test_one_opencv_stays(machine):
    machine.install('opencv_python_headless', '5.0')
    assert machine.run('setup.sh').returncode == 0
    assert ' opencv-python opencv-python-headless ' in machine.calls('pip uninstall')[0]
    assert installs(machine)[4].startswith('opencv-python ')


def test_pip_goes_on_where_uv_fails(machine):
    (machine.environment / 'uv_fails').touch()
    done = machine.run('setup.sh')
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('uv failed, so pip') == 1
    calls = installs(machine, '-m pip install')
    assert [call.split()[0] for call in calls[:2]] == ['pip', 'torch'] and 'timm>=' in calls[2]
    assert calls[-1].startswith('--force-reinstall --no-deps --no-build-isolation -e . ./ops ')
    assert len(installs(machine)) == 1


def test_pips_index_holds_for_uv(machine):
    machine.run('setup.sh')
    assert all('INDEX=https://mirror.example/simple' in call for call in machine.calls('uv pip'))


@pytest.mark.parametrize('name', ['constraints.txt', 'setup.cfg', 'backbones/mmcv_ext.py'])
def test_a_changed_set_is_installed_again(machine, name):
    machine.run('setup.sh')
    with (machine.repository / name).open('a') as file:
        file.write('\n# changed\n')
    assert '[5/5]' in machine.run('setup.sh').stdout


def test_core_has_no_operators_and_extras_add_up(machine):
    assert '[5/5]' in machine.run('setup.sh', '--extras', 'core').stdout
    words = ('mmcv-lite', 'pytest>=', './ops')
    assert not any(word in call for call in installs(machine) for word in words)
    done = machine.run('setup.sh', '--extras=dev')
    assert done.returncode == 0 and 'extras dev,core' in done.stdout
    assert machine.run('setup.sh', '--extras', 'core,dev').stdout.startswith('ready: ')


class TestBuildOfTorch:
    """Which one is fetched where none is installed, and what is said about it."""

    @pytest.fixture(autouse=True)
    def nothing_installed(self, machine):
        self.version = next(machine.environment.glob('lib/*/site-packages/torch/version.py'))
        self.version.write_text('')

    def test_without_a_gpu_it_is_the_cpu_build(self, machine):
        (machine.environment / 'cpu_index').touch()
        assert 'CPU build, as no GPU is here' in machine.run('setup.sh').stdout
        probe, fetched = machine.calls('torch torchvision')
        assert '--dry-run' in probe and '--torch-backend=cpu' in probe
        assert fetched.endswith('BACKEND=cpu]')
        assert all(call.endswith('BACKEND=]') for call in machine.calls('timm>='))

    def test_out_of_reach_it_is_the_default_build(self, machine):
        assert 'the index of CPU builds is out of reach' in machine.run('setup.sh').stdout
        assert machine.calls('torch torchvision')[1].endswith('BACKEND=]')

    def test_with_a_gpu_nothing_is_asked(self, machine):
        machine.set_gpus(1)
        assert 'with CUDA, as a GPU is here' in machine.run('setup.sh').stdout
        assert not machine.calls('--dry-run') and machine.calls('_environment.py ops cpu cuda')

    def test_the_first_gpu_replaces_the_cpu_build(self, machine):
        self.version.write_text("__version__ = '2.11.0+cpu'\ncuda = None\n")
        assert ' ... with ' not in machine.run('setup.sh').stdout
        assert machine.run('setup.sh').stdout.startswith('ready: ')
        machine.set_gpus(1)
        assert '[5/5]' in machine.run('setup.sh').stdout
        (gone,) = machine.calls('pip uninstall')
        assert ' torch torchvision ' in gone


class TestAnotherSet:
    def test_pins_bound_to_torch_give_way_and_the_choice_stays(self, machine):
        assert machine.run('setup.sh', '--torch', '2.14').returncode == 0
        pins = (machine.environment / 'constraints.txt').read_text().splitlines()
        ours = {line.split('==')[0] for line in pins}
        assert 'torch==2.14.*' in pins and 'timm' in ours
        assert not ours & {'torchvision', 'triton', 'nvidia-cublas', 'sympy'}
        assert machine.calls('torch==2.14.* torchvision')
        assert machine.run('setup.sh').stdout.startswith('ready: ')
        assert '[5/5]' in machine.run('setup.sh', '--torch=2.13').stdout

    def test_has_a_folder_of_its_own(self, machine):
        version = f'{sys.version_info[0]}.{sys.version_info[1]}'
        machine.variables['COMAD_VENV'] = ''
        done = machine.run('setup.sh', '--check', '--python', version, '--torch=2.14')
        assert f'.venv-py{version}-torch2.14; tools/setup.sh makes it' in done.stdout

    def test_another_python_in_the_folder_is_refused(self, machine):
        other = '3.10' if sys.version_info[1] != 10 else '3.11'
        done = machine.run('setup.sh', '--python', other)
        assert done.returncode == 1 and f'missing  Python {other} in ' in done.stdout


class TestCompiled:
    def test_builds_mmcv_in_place_of_mmcv_lite(self, machine):
        machine.program('c++', 'echo compiler')
        machine.install('mmcv_lite', '2.1.0')
        (machine.environment / 'ops_fail').touch()  # they are not there before they are compiled
        done = machine.run('setup.sh', '--compiled')
        assert done.returncode == 0, done.stderr
        assert '[4/6] mmcv: compiles its operators for cpu' in done.stdout
        assert ' mmcv mmcv-lite comad-bench-ops ' in machine.calls('pip uninstall')[0]
        options = '--no-build-isolation --no-cache-dir --force-reinstall --no-deps mmcv '
        assert installs(machine, '-m pip install')[-1].startswith(options)
        assert not any('mmcv-lite' in call or './ops' in call for call in installs(machine))
        assert machine.run('setup.sh').stdout.startswith('ready: ')

    def test_lite_goes_back(self, machine):
        machine.program('c++', 'echo compiler')
        machine.run('setup.sh', '--compiled')
        machine.install('mmcv', '2.1.0')
        assert '[5/5]' in machine.run('setup.sh', '--lite').stdout
        assert ' mmcv mmcv-lite comad-bench-ops ' in machine.calls('pip uninstall')[-1]
        assert machine.run('setup.sh').stdout.startswith('ready: ')

    def test_a_build_that_runs_is_kept(self, machine):
        machine.program('c++', 'echo compiler')
        machine.install('mmcv', '2.1.0')
        assert machine.run('setup.sh', '--compiled').returncode == 0
        assert not machine.calls('--no-cache-dir')

    def test_cuda_comes_with_the_first_gpu(self, machine):
        """It needs an nvcc of torch's CUDA version; without it the environment stays as it is."""
        machine.program('c++', 'echo compiler')
        machine.run('setup.sh', '--compiled')
        machine.set_gpus(1)
        machine.program('nvcc', 'echo "Cuda compilation tools, release 12.4, V12.4.1"')
        assert machine.run('setup.sh').stdout.startswith('ready: ')
        machine.program('nvcc', 'echo "Cuda compilation tools, release 13.0, V13.0.88"')
        (machine.environment / 'ops_fail').touch()
        done = machine.run('setup.sh')
        assert done.returncode == 0, done.stderr
        (built,) = machine.calls('--no-cache-dir')
        assert 'CUDA=1 ' in built and machine.calls('_environment.py ops cpu cuda')
        assert machine.run('setup.sh').stdout.startswith('ready: ')

    def test_a_compiler_is_asked_for(self, machine):
        machine.variables['CXX'] = 'no-such-compiler'
        assert '[5/5]' in machine.run('setup.sh').stdout
        done = machine.run('setup.sh', '--compiled')
        assert done.returncode == 1 and 'missing  a C++17 compiler' in done.stdout


def test_failure_names_step_and_log_and_leaves_no_stamp(machine):
    for name in ('uv_fails', 'pip_fails'):
        (machine.environment / name).touch()
    done = machine.run('setup.sh')
    assert done.returncode != 0
    assert 'no such wheel' in done.stderr
    assert done.stderr.splitlines()[-1].startswith('error: set-up stopped at "environment ')
    (machine.environment / 'pip_fails').unlink()
    assert '[5/5]' in machine.run('setup.sh').stdout


@pytest.mark.parametrize('check', [(), ('--check',)])
def test_missing_things_are_named_and_nothing_is_made(machine, check):
    machine.program('broken', 'echo "command not found" >&2; exit 127')
    machine.program('new', 'echo 3.14.0')
    absent = machine.folder / 'absent'
    machine.variables |= {
        'COMAD_VENV': str(absent),
        'PYTHON': 'broken new gone',
        'CXX': 'no-such-compiler',
    }
    machine.program('git', 'exit 127')
    done = machine.run('setup.sh', '--compiled', *check)
    assert done.returncode == 1
    missing = [line for line in done.stdout.splitlines() if line.startswith('missing ')]
    assert 'broken: does not start; new: is 3.14.0; gone: not found' in missing[0]
    assert any('git' in line for line in missing) and any('C++17' in line for line in missing)
    assert not absent.exists()


def test_a_folder_with_other_files_is_left_alone(machine):
    (machine.folder / 'home').mkdir()
    (machine.folder / 'home' / 'letter.txt').write_text('dear')
    machine.variables['COMAD_VENV'] = str(machine.folder / 'home')
    done = machine.run('setup.sh')
    assert done.returncode == 1 and 'other files' in done.stdout
    assert os.listdir(machine.folder / 'home') == ['letter.txt']


@pytest.mark.parametrize('arguments', WRONG)
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
    assert "mmcv's operators are right on cpu" in done.stdout


def test_every_requirement_is_pinned_within_its_range():
    pins = read_pins()
    needs = [Requirement(line) for line in requirements(['dense', 'dev'])]
    assert {'torch', 'mmcv-lite', 'pytest'} <= {need.name for need in needs}
    for need in needs:
        (pin,) = pins[need.name].specifier
        assert pin.operator == '==' and need.specifier.contains(pin.version), need.name


def test_pins_follow_the_interpreter(tmp_path):
    path = tmp_path / 'constraints.txt'
    path.write_text(
        "# set\nnew==2  # why\nnew==1; python_version < '3'\nold==1; python_version < '3'\n"
    )
    assert {name: str(pin.specifier) for name, pin in read_pins(path=path).items()} == {
        'new': '==2'
    }


def test_diagnosis_names_a_wrong_version(monkeypatch):
    monkeypatch.setattr(
        'tools._environment.installed_version', lambda name: None if name == 'timm' else '0.1'
    )
    texts = [text for kind, text in diagnose(['core']) if kind == 'missing']
    assert 'torch==2.11.0 (installed: 0.1)' in texts
    assert any(text.startswith('timm==') and 'installed' not in text for text in texts)


def chosen_torch() -> str:
    """The --torch that this environment was made with."""
    stamp = Path(sys.prefix, '.comad-setup')
    lines = stamp.read_text().splitlines() if stamp.exists() else []
    return ''.join(line.removeprefix('torch=') for line in lines if line.startswith('torch='))


def test_all_that_is_needed_is_pinned():
    """The lock holds for this interpreter: what requirements bring along is listed, too."""
    found = needed(['pip', 'setuptools', *requirements(['dense', 'dev'])])
    assert {'torch', 'mmdet', 'sympy', 'pyyaml', 'pluggy'} <= set(found) and len(found) > 90
    assert diagnose(['dense', 'dev'], chosen_torch()) == [('ok', ANY)]


def test_diagnosis_names_what_has_no_pin(monkeypatch):
    pins = read_pins(chosen_torch())
    del pins['timm'], pins['pyyaml']
    monkeypatch.setattr('tools._environment.read_pins', lambda torch: pins)
    texts = [text for kind, text in diagnose(['core'], chosen_torch())]
    assert [text.split()[0] for text in texts] == ['pyyaml', 'timm']
    assert all('in constraints.txt (installed: ' in text for text in texts)


def test_lock_is_up_to_date():
    """For every supported Python and system, which no single environment can show."""
    uv = shutil.which('uv') or Path(sys.prefix, 'bin', 'uv')
    environment = os.environ | {'PATH': f'{Path(uv).parent}:{os.environ["PATH"]}'}
    done = subprocess.run(
        ['bash', str(ROOT / 'tools' / 'lock.sh'), '--check'],
        env=environment,
        capture_output=True,
        text=True,
    )
    if 'error sending request' in done.stderr:
        pytest.skip('the index of packages is out of reach')
    assert done.returncode == 0, done.stdout + done.stderr


def test_uv_gets_pips_servers_but_not_its_folders(tmp_path, monkeypatch):
    (tmp_path / 'pip.conf').write_text(
        '[global]\nindex-url = https://old.example/simple\ncert = /ca.pem\nfind-links = /wheels\n'
        'extra-index-url =\n    file:///packages\n    https://more.example/simple\n'
        '[install]\nindex-url = https://new.example/simple\n'
    )
    for name in list(os.environ):
        if name.startswith(('PIP_', 'UV_')) or name == 'SSL_CERT_FILE':
            monkeypatch.delenv(name)
    monkeypatch.setenv('PIP_CONFIG_FILE', str(tmp_path / 'pip.conf'))
    monkeypatch.setenv('UV_INDEX_STRATEGY', 'first-index')
    assert sorted(uv_settings()) == [
        'SSL_CERT_FILE=/ca.pem',
        'UV_DEFAULT_INDEX=https://new.example/simple',
        'UV_INDEX=https://more.example/simple',
    ]
