"""The launchers: which command they become, and what they say to wrong input."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAUNCHERS = ('pretrain.sh', 'dist_train.sh', 'dist_test.sh', 'slurm_train.sh')


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


@pytest.mark.parametrize('name', [*LAUNCHERS, 'setup.sh', 'test.sh', 'quickstart.sh'])
def test_help_shows_usage_and_runs_nothing(machine, name):
    done = machine.run(name, '--help')
    assert done.returncode == 0
    assert f'  tools/{name} ' in done.stdout
    assert done.stderr == '' and '#' not in done.stdout.splitlines()[0]
    assert machine.calls() == []


def test_scripts_are_executable():
    names = [*LAUNCHERS, 'setup.sh', 'test.sh', 'quickstart.sh']
    assert all(os.access(ROOT / 'tools' / name, os.X_OK) for name in names)
    assert os.access(ROOT / '.ci' / 'run', os.X_OK)


class TestPretrain:
    def test_without_gpu_is_one_process(self, machine):
        done = machine.run('pretrain.sh', 'comad', '--sample', '--seed', '3', '--dry-run')
        command = ['tools/train.py', 'pretrain_configs/comad_tiny.py', '--sample', '--seed', '3']
        assert words(done)[1:] == command

    def test_method_may_name_a_size(self, machine):
        done = machine.run('pretrain.sh', 'mae_base', '--dry-run')
        assert words(done)[-1] == 'pretrain_configs/mae_base.py'

    def test_unknown_method_lists_the_known(self, machine):
        line = refusal(machine.run('pretrain.sh', 'comed', '--sample'))
        assert "'comed'" in line and line.endswith('comad mae mae_base')
        assert refusal(machine.run('pretrain.sh', '--sample')).endswith('comad mae mae_base')

    def test_help_lists_the_methods(self, machine):
        assert 'methods: comad mae mae_base' in machine.run('pretrain.sh', 'comad', '-h').stdout

    @pytest.mark.parametrize(
        ('arguments', 'processes'),
        [
            ((), 4),
            (('--gpus', '2'), 2),
            (('--gpus=3',), 3),
            (('--sample',), 1),
            (('--gpus', '1'), 1),
        ],
    )
    def test_gpus(self, machine, arguments, processes):
        machine.set_gpus(4)
        command = words(machine.run('pretrain.sh', 'mae', *arguments, '--dry-run'))
        assert (f'--nproc_per_node={processes}' in command) == (processes > 1)
        assert ('--launcher' in command) == (processes > 1)
        assert '--gpus' not in ' '.join(command)

    def test_visible_devices_count(self, machine):
        machine.set_gpus(4)
        machine.variables['CUDA_VISIBLE_DEVICES'] = '1,3'
        assert '--nproc_per_node=2' in words(machine.run('pretrain.sh', 'mae', '--dry-run'))
        machine.variables['CUDA_VISIBLE_DEVICES'] = ''
        assert '--launcher' not in words(machine.run('pretrain.sh', 'mae', '--dry-run'))

    def test_zero_gpus_hides_them(self, machine):
        machine.set_gpus(4)
        assert machine.run('pretrain.sh', 'mae', '--gpus', '0').returncode == 0
        (call,) = machine.calls('train.py')
        assert call.startswith('tools/train.py pretrain_configs/mae_tiny.py [')
        assert call.endswith('DEVICES=]')

    @pytest.mark.parametrize('value', ['5', 'all', '-1'])
    def test_impossible_gpus(self, machine, value):
        machine.set_gpus(4)
        assert value in refusal(machine.run('pretrain.sh', 'mae', '--gpus', value))


class TestDistributed:
    config = 'pretrain_configs/comad_tiny.py'

    def test_cpu_processes_share_the_cores(self, machine):
        cores = len(os.sched_getaffinity(0))
        command = words(machine.run('dist_train.sh', self.config, '2', '--sample', '--dry-run'))
        assert command[0] == f'OMP_NUM_THREADS={max(1, cores // 2)}'
        assert '--nproc_per_node=2' in command and '--nnodes=1' in command
        assert command[-5:] == ['tools/train.py', self.config, '--launcher', 'pytorch', '--sample']

    def test_threads_of_the_user_stay(self, machine):
        machine.variables['OMP_NUM_THREADS'] = '5'
        assert machine.run('dist_train.sh', self.config, '2').returncode == 0
        assert '[OMP=5 ' in machine.calls('_torchrun.py')[0]

    def test_port(self, machine):
        dry = (self.config, '1', '--dry-run')
        free = re.search(r'--master_port=(\d+)', machine.run('dist_train.sh', *dry).stdout)
        assert 1024 <= int(free[1]) < 65536
        machine.variables |= {'NNODES': '2', 'NODE_RANK': '1', 'MASTER_ADDR': 'head'}
        command = words(machine.run('dist_train.sh', *dry))
        assert {'--master_port=29500', '--node_rank=1', '--master_addr=head'} <= set(command)
        machine.variables['PORT'] = '12345'
        assert '--master_port=12345' in words(machine.run('dist_train.sh', *dry))

    def test_config_is_found_from_caller_and_root(self, machine):
        folder = machine.repository / 'pretrain_configs'
        (machine.folder / 'own.py').write_text('')
        for given, cwd, expected in (
            ('comad_tiny.py', folder, self.config),
            (self.config, machine.folder, self.config),
            (str(folder / 'comad_tiny.py'), machine.folder, self.config),
            ('own.py', machine.folder, str(machine.folder / 'own.py')),
        ):
            done = machine.run('dist_train.sh', given, '1', '--dry-run', cwd=cwd)
            assert words(done)[-3] == expected

    def test_refusals(self, machine):
        assert 'usage' in refusal(machine.run('dist_train.sh', self.config))
        assert 'nowhere.py' in refusal(machine.run('dist_train.sh', 'nowhere.py', '2'))
        for count in ('0', 'two', '08', '1.5'):
            assert f"'{count}'" in refusal(machine.run('dist_train.sh', self.config, count))
        machine.set_gpus(2)
        assert '3 GPUs asked for, 2 here' in refusal(machine.run('dist_train.sh', self.config, '3'))
        machine.variables['COMAD_VENV'] = str(machine.folder / 'absent')
        assert 'tools/setup.sh' in refusal(machine.run('dist_train.sh', self.config, '2'))

    def test_dist_test(self, machine):
        (machine.repository / 'last.pth').write_text('')
        command = words(machine.run('dist_test.sh', self.config, 'last.pth', '2', '--dry-run'))
        assert command[-5:] == ['tools/test.py', self.config, 'last.pth', '--launcher', 'pytorch']
        assert 'lost.pth' in refusal(machine.run('dist_test.sh', self.config, 'lost.pth', '2'))

    def test_paths_with_spaces_survive(self, machine):
        (machine.folder / 'my config.py').write_text('')
        path = str(machine.folder / 'my config.py')
        done = machine.run('dist_train.sh', path, '1', '--work-dir', 'a b', '--dry-run')
        assert 'my\\ config.py --launcher pytorch --work-dir a\\ b' in done.stdout


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
        (machine.environment / 'pip_fails').touch()
        assert machine.run('test.sh').returncode != 0
        assert machine.calls('-m pytest') == []


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_torchrun_hands_signals_on_and_waits(tmp_path, number):
    script = tmp_path / 'worker.py'
    script.write_text(
        'import os, signal, sys, time\nfrom pathlib import Path\n'
        'def save(number, frame):\n    time.sleep(1)\n'
        '    Path(f\'saved{os.environ["RANK"]}\').touch()\n    sys.exit(75)\n'
        f'signal.signal({int(number)}, save)\n'
        'Path(f\'ready{os.environ["RANK"]}\').touch()\ntime.sleep(60)\n'
    )
    command = [sys.executable, str(ROOT / 'tools/_torchrun.py'), '--nproc_per_node=2', str(script)]
    run = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 50
    while len(list(tmp_path.glob('ready*'))) < 2:
        assert time.monotonic() < end and run.poll() is None
        time.sleep(0.05)
    run.send_signal(number)
    said = run.communicate(timeout=50)[1]
    assert run.returncode == 75 and 'Traceback' not in said and 'error' not in said
    assert len(list(tmp_path.glob('saved*'))) == 2


@pytest.mark.parametrize(
    ('last_act', 'status', 'said'),
    [
        ("print('error: no such data'); sys.exit(2)", 2, ''),
        ("raise RuntimeError('boom')", 1, 'error: process 1 failed with status 1'),
        ('os.kill(os.getpid(), 9)', 137, 'error: process 1 was ended by SIGKILL'),
    ],
)
def test_a_failed_process_is_named_in_one_line(tmp_path, last_act, status, said):
    script = tmp_path / 'worker.py'
    script.write_text(
        f"import os, sys, time\nif os.environ['RANK'] == '0':\n    time.sleep(60)\n{last_act}\n"
    )
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tools/_torchrun.py'), '--nproc_per_node=2', str(script)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == status
    own = [
        line for line in done.stderr.splitlines() if 'ChildFailedError' in line or 'error:' in line
    ]
    assert [line.split(';')[0] for line in own] == ([said] if said else [])
