"""The launchers: which command they become, and what they say to wrong input."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The launchers that Python does: tests/commands.
LAUNCHERS = ('pretrain.sh', 'dist_train.sh', 'dist_test.sh')
SHELL_TOOLS = ('slurm_train.sh', 'setup.sh', 'test.sh', 'quickstart.sh')


def words(done: subprocess.CompletedProcess) -> list[str]:
    """The words of the command that a dry run prints."""
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def refusal(done: subprocess.CompletedProcess) -> str:
    """The one line that a refused call says."""
    assert done.returncode != 0
    assert done.stdout == ''
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith('error: '), done.stderr
    return lines[0]


@pytest.mark.parametrize('name', sorted(path.name for path in (ROOT / 'tools').glob('*.sh')))
def test_syntax(name):
    subprocess.run(['bash', '-n', str(ROOT / 'tools' / name)], check=True)


@pytest.mark.parametrize('name', SHELL_TOOLS)
def test_help_shows_usage_and_runs_nothing(machine, name):
    done = machine.run(name, '--help')
    assert done.returncode == 0
    assert f'  tools/{name} ' in done.stdout
    assert done.stderr == '' and '#' not in done.stdout.splitlines()[0]
    assert machine.calls() == []


def test_scripts_are_executable():
    names = [*LAUNCHERS, *SHELL_TOOLS]
    assert all(os.access(ROOT / 'tools' / name, os.X_OK) for name in names)
    assert os.access(ROOT / '.ci' / 'run', os.X_OK)


class TestSlurm:
    """The commands; what becomes of them: tests/slurm."""

    arguments = ('part', 'job', 'pretrain_configs/comad_tiny.py', '--amp')

    def command(self, machine, *more):
        return words(machine.run('slurm_train.sh', *self.arguments, *more, '--dry-run'))

    def test_command(self, machine):
        machine.variables |= {'GPUS': '16', 'SRUN_ARGS': '--qos=high --exclusive'}
        given = self.command(machine)[1:]
        assert given[:4] == ['srun', '--partition=part', '--job-name=job', '--ntasks=16']
        assert given[4:7] == ['--ntasks-per-node=8', '--cpus-per-task=5', '--gres=gpu:8']
        assert given[-9:-7] == ['--qos=high', '--exclusive']
        assert given[-5:] == ['tools/train.py', self.arguments[2], '--launcher', 'slurm', '--amp']

    @pytest.mark.parametrize(
        ('gres', 'gpus', 'shape'),
        [
            (['gpu:a100:4(S:0-1)', '(null)'], None, '4 4 gpu:4'),
            (['gpu:a100:2,gpu:v100:2,nic:1'], None, '4 4 gpu:4'),
            (['gpu:16'], None, '8 8 gpu:8'),
            (['gpu:4'], '8', '8 4 gpu:4'),
            (['(null)'], None, '1 1 none'),
            (['(null)'], '16', '16 8 none'),
        ],
    )
    def test_the_shape_is_that_of_the_nodes(self, machine, gres, gpus, shape):
        machine.program('sinfo', f'printf "%s\\n" {" ".join(map(repr, gres))}')
        if gpus:
            machine.variables['GPUS'] = gpus
        given = dict(word.split('=') for word in self.command(machine) if word.count('=') == 1)
        names = ('--ntasks', '--ntasks-per-node', '--gres')
        assert ' '.join(given.get(name, 'none') for name in names) == shape

    @pytest.mark.parametrize('form', ['--gres=gpu:a100:8', '--gpus-per-node=8', '-G 8'])
    def test_gpus_asked_for_in_the_sites_own_way(self, machine, form):
        machine.variables['SRUN_ARGS'] = form
        given = self.command(machine)
        assert '--gres=gpu:8' not in given and form.split()[0] in given

    def test_submits_itself(self, machine):
        machine.variables |= {'GRACE': '300', 'SBATCH_ARGS': '--time=8:00:00', 'GPUS': '2'}
        done = machine.run('slurm_train.sh', '--batch', *self.arguments, '--dry-run')
        given = shlex.split(done.stdout)
        assert {'--requeue', '--signal=B:USR1@300', '--time=8:00:00', '--ntasks=2'} <= set(given)
        wrapped = shlex.split(given[given.index('--wrap') + 1])
        assert wrapped[:2] == ['exec', 'env'] and {'GPUS=', 'GRACE=300'} <= set(wrapped)
        script = machine.repository / 'tools' / 'slurm_train.sh'
        assert wrapped[-6:] == ['bash', str(script), *self.arguments]

    def test_refusals(self, machine):
        assert 'usage' in refusal(machine.run('slurm_train.sh', 'part', 'job'))
        machine.variables['GPUS'] = '12'
        line = refusal(machine.run('slurm_train.sh', *self.arguments, '--dry-run'))
        assert 'GPUS=12' in line and 'GPUS_PER_NODE=8' in line

    @pytest.mark.parametrize(
        ('limit', 'least'),
        [('3', 180), ('2:59', 179), ('0:03:00', 180), ('0-1', 3600), ('1-0:0', 86400),
         ('0-0:3:1', 181), ('08:09', 489)],
    )  # fmt: skip
    def test_time_limits_in_all_forms(self, machine, limit, least):
        """A job has to last for the grace and a minute more."""
        command = ('slurm_train.sh', '--batch', *self.arguments, '--dry-run')
        machine.variables |= {'SBATCH_ARGS': f'--time={limit}', 'GRACE': str(least - 61)}
        words(machine.run(*command))
        machine.variables |= {'SBATCH_ARGS': f'-t {limit}', 'GRACE': str(least - 60)}
        assert f'a job of {limit} no time' in refusal(machine.run(*command))


class TestTests:
    """test.sh sets up, then calls pytest with the arguments that it was given."""

    def test_gpu_tests_are_left_out_without_one(self, machine):
        (machine.repository / 'tests').mkdir()
        machine.variables['TEST_JOBS'] = '1'
        machine.run('test.sh', '-k', 'nothing at all')
        assert '-m pytest -m not gpu -k nothing at all [' in machine.calls('-m pytest')[0]
        machine.set_gpus(1)
        machine.run('test.sh', '-x')
        assert '-m pytest -x [' in machine.calls('-m pytest')[1]

    def test_files_run_side_by_side_with_a_thread_each(self, machine):
        (machine.repository / 'tests').mkdir()
        machine.variables['TEST_JOBS'] = '9'
        machine.run('test.sh')
        machine.run('test.sh', '--pdb')
        first, second = machine.calls('-m pytest')
        assert '-m pytest -n 4 --dist loadfile --no-loadscope-reorder -m not gpu [OMP=1 ' in first
        assert '-m pytest -m not gpu --pdb [OMP=1 ' in second
        machine.variables['TEST_JOBS'] = 'many'
        assert 'TEST_JOBS' in refusal(machine.run('test.sh'))

    @pytest.mark.parametrize('works', [True, False])
    def test_a_missing_browser_is_installed_or_named(self, machine, works):
        (machine.repository / 'tests').mkdir()
        for name in ('chromium', 'chromedriver'):
            (machine.folder / 'bin' / name).unlink()
        others = machine.folder / 'others'
        others.mkdir()
        for path in {p.name: p for d in ('/usr/bin', '/bin') for p in Path(d).iterdir()}.values():
            if 'chrom' not in path.name:
                (others / path.name).symlink_to(path)
        machine.variables['PATH'] = f'{machine.folder / "bin"}:{others}'
        log = machine.folder / 'apt'
        machine.program('apt-get', f'echo "$*" >> {log}; exit {0 if works else 100}')
        said = machine.run('test.sh').stderr
        assert len(machine.calls('-m pytest')) == 1
        named = 'note: no browser for the tests marked browser: apt install chromium' in said
        installed = log.exists() and 'install -y' in log.read_text()
        if os.geteuid() == 0:
            assert named is not works and installed is works
        else:
            assert named and not installed

    def test_a_missing_slurm_is_installed_or_named(self, machine):
        (machine.repository / 'tests').mkdir()
        (machine.folder / 'bin' / 'slurmctld').unlink()
        # Where this machine has it, the tests of the browser have shown the way.
        machine.variables['PATH'] = f'{machine.folder / "bin"}:/usr/bin:/bin'
        machine.program('apt-get', 'exit 100')
        said = machine.run('test.sh').stderr
        here = Path('/usr/sbin/slurmctld').exists()
        assert ('note: no Slurm for the tests marked slurm: apt install' in said) is not here
        assert len(machine.calls('-m pytest')) == 1

    def test_no_tests_after_a_failed_set_up(self, machine):
        for name in ('uv_fails', 'pip_fails'):
            (machine.environment / name).touch()
        assert machine.run('test.sh').returncode != 0
        assert machine.calls('-m pytest') == []
