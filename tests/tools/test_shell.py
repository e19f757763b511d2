"""The launchers: which command they become, and what they say to wrong input."""

import os
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
    arguments = ('part', 'job', 'pretrain_configs/comad_tiny.py', '--amp')

    def test_command(self, machine):
        machine.program('srun', 'printf "%s\\n" "port=$MASTER_PORT" "$@"')
        machine.variables |= {'GPUS': '16', 'SRUN_ARGS': '--qos=high --exclusive', 'PORT': '23456'}
        given = machine.run('slurm_train.sh', *self.arguments).stdout.splitlines()
        assert given[:5] == [
            'port=23456', '--partition=part', '--job-name=job', '--gres=gpu:8', '--ntasks=16',
        ]  # fmt: skip
        assert given[5:7] == ['--ntasks-per-node=8', '--cpus-per-task=5']
        assert given[8:10] == ['--qos=high', '--exclusive']
        assert given[-5:] == ['tools/train.py', self.arguments[2], '--launcher', 'slurm', '--amp']

    def test_fewer_gpus_than_a_node(self, machine):
        machine.variables['GPUS'] = '2'
        command = words(machine.run('slurm_train.sh', *self.arguments, '--dry-run'))
        assert '--gres=gpu:2' in command and '--ntasks=2' in command

    def test_refusals(self, machine):
        assert 'usage' in refusal(machine.run('slurm_train.sh', 'part', 'job'))
        machine.variables['GPUS'] = '12'
        line = refusal(machine.run('slurm_train.sh', *self.arguments, '--dry-run'))
        assert 'GPUS=12' in line and 'GPUS_PER_NODE=8' in line


class TestSlurmJob:
    """slurm_train.sh as a batch job, with a stand-in for srun that ends as the training would."""

    arguments = ('part', 'job', 'pretrain_configs/comad_tiny.py', '--sample')

    @pytest.fixture
    def job(self, machine):
        machine.variables['SLURM_JOB_ID'] = '7'
        machine.program('scontrol', f'echo "$*" >> {machine.folder}/requeued')
        (machine.environment / 'run').mkdir()
        return machine

    def requeued(self, machine):
        path = machine.folder / 'requeued'
        return path.read_text().splitlines() if path.exists() else []

    def test_submits_itself(self, machine):
        machine.program('sbatch', 'printf "%s\\n" "$@"')
        machine.variables |= {'GRACE': '300', 'SBATCH_ARGS': '--time=8:00:00', 'GPUS': '2'}
        done = machine.run('slurm_train.sh', '--batch', *self.arguments)
        given = done.stdout.splitlines()
        assert {'--requeue', '--signal=B:USR1@300', '--time=8:00:00', '--ntasks=2'} <= set(given)
        assert given[-2] == '--wrap'
        script = machine.repository / 'tools' / 'slurm_train.sh'
        assert given[-1].split() == ['exec', 'bash', str(script), *self.arguments]

    @pytest.mark.parametrize('status', [0, 1, 75])
    def test_goes_on_after_a_stop_only(self, job, status):
        job.program('srun', f'echo "$*"; exit {status}')
        done = job.run('slurm_train.sh', *self.arguments)
        assert done.returncode == status
        assert done.stdout.strip().endswith('--launcher slurm --sample --resume auto')
        assert self.requeued(job) == (['requeue 7'] if status == 75 else [])

    def test_the_marker_counts_when_srun_killed_a_task(self, job):
        job.program('srun', f'touch {job.environment}/run/requeue; exit 137')
        assert job.run('slurm_train.sh', *self.arguments).returncode == 75
        assert self.requeued(job) == ['requeue 7']

    def test_a_checkpoint_of_the_user_stays(self, job):
        job.program('srun', 'echo "$*"')
        done = job.run('slurm_train.sh', *self.arguments, '--resume', 'some.pth')
        assert done.stdout.strip().endswith('--sample --resume some.pth')

    @pytest.mark.parametrize('name', ['USR1', 'TERM'])
    def test_signals_reach_the_training(self, job, name):
        """The batch shell waits until the step has saved."""
        job.program(
            'srun',
            f"trap 'sleep 0.5; echo saved {name}; exit 75' {name}\nkill -{name} $PPID\n"
            'for i in {1..100}; do sleep 0.1; done; exit 1',
        )
        done = job.run('slurm_train.sh', *self.arguments)
        assert (done.returncode, done.stdout) == (75, f'saved {name}\n'), done.stderr
        assert self.requeued(job) == ['requeue 7']

    def test_outside_of_a_job_nothing_is_added(self, machine):
        machine.program('srun', 'echo "$*"; exit 75')
        machine.program('scontrol', 'exit 9')
        done = machine.run('slurm_train.sh', *self.arguments)
        assert done.returncode == 75 and '--resume' not in done.stdout


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

    def test_no_tests_after_a_failed_set_up(self, machine):
        for name in ('uv_fails', 'pip_fails'):
            (machine.environment / name).touch()
        assert machine.run('test.sh').returncode != 0
        assert machine.calls('-m pytest') == []
