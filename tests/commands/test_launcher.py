"""From "on N GPUs" to the command of the processes, and what wrong input is told."""

import shlex

import pytest

from comad.commands import distributed, launcher, pretrain
from comad.runs.place import CALLER, FILES, HOME

CONFIG = 'pretrain_configs/comad_tiny.py'


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    """Types a command in ``cwd`` of a machine with ``gpus``; returns words or the refusal."""
    monkeypatch.setenv('PATH', str(tmp_path))
    for name in ('NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT', 'CUDA_VISIBLE_DEVICES'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.delenv(HOME)
    monkeypatch.delenv(CALLER)

    def run(main, *arguments, gpus=0, cwd=FILES, dry_run=True):
        # What is in the environment by now is put back afterwards.
        for name in (HOME, CALLER, 'OMP_NUM_THREADS', 'CUDA_VISIBLE_DEVICES'):
            monkeypatch.setenv(name, 'x')
            monkeypatch.delenv(name)
        smi = tmp_path / 'nvidia-smi'
        lines = ''.join(f'echo "GPU {i}: Some GPU (UUID: GPU-{i})"\n' for i in range(gpus))
        smi.write_text(f'#!/bin/sh\n{lines or "exit 9"}\n')
        smi.chmod(0o755)
        monkeypatch.chdir(cwd)
        try:
            status = main([*arguments, *(['--dry-run'] if dry_run else [])])
        except SystemExit as end:
            status = end.code or 0
        out, err = capsys.readouterr()
        if not status:
            assert err == ''
            return shlex.split(out)
        lines = err.splitlines()
        assert out == '' and len(lines) == 1 and lines[0].startswith('error: ')
        assert status == 2  # as training refuses
        return lines[0]

    return run


class TestPretrain:
    def test_without_gpu_is_one_process(self, typed):
        words = typed(pretrain.main, 'comad', '--sample', '--seed', '3')
        assert words[1:] == ['-m', 'comad.commands.train', CONFIG, '--sample', '--seed', '3']

    def test_method_may_name_a_size(self, typed):
        assert typed(pretrain.main, 'mae_base')[-1] == 'pretrain_configs/mae_base.py'

    def test_unknown_method_lists_the_known(self, typed):
        for arguments in (['comed', '--sample'], ['--sample'], ['../comad']):
            line = typed(pretrain.main, *arguments)
            assert {'comad', 'mae', 'mae_base'} <= set(line.split()), line
        assert "'comed'" in typed(pretrain.main, 'comed')

    def test_help_lists_the_methods(self, typed):
        words = typed(pretrain.main, 'comad', '-h')
        assert {'methods:', 'comad', 'mae', 'mae_base'} <= set(words)

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
    def test_gpus(self, typed, arguments, processes):
        words = typed(pretrain.main, 'mae', *arguments, gpus=4)
        assert (f'--nproc_per_node={processes}' in words) == (processes > 1)
        assert ('--launcher' in words) == (processes > 1)
        assert not any('gpus' in word for word in words)

    def test_visible_devices_count(self, monkeypatch, tmp_path, typed):
        typed(pretrain.main, 'mae', gpus=4)
        for value, count in (('1,3', 2), ('', 0), ('-1', 0), ('0', 1)):
            monkeypatch.setenv('CUDA_VISIBLE_DEVICES', value)
            assert launcher.gpu_count() == count

    @pytest.mark.parametrize('value', ['5', 'all', '-1', '02'])
    def test_impossible_gpus(self, typed, value):
        assert value in typed(pretrain.main, 'mae', f'--gpus={value}', gpus=4)

    def test_zero_gpus_hides_them(self, typed, monkeypatch):
        became = []
        monkeypatch.setattr(launcher.os, 'execv', lambda *call: became.append(call))
        typed(pretrain.main, 'mae', '--gpus', '0', gpus=4, dry_run=False)
        assert launcher.os.environ['CUDA_VISIBLE_DEVICES'] == ''
        ((path, command),) = became
        assert command[1:] == ['-m', 'comad.commands.train', 'pretrain_configs/mae_tiny.py']


class TestDistributed:
    def test_cpu_processes_share_the_cores(self, typed):
        words = typed(distributed.train, CONFIG, '2', '--sample')
        assert words[0] == f'OMP_NUM_THREADS={max(1, launcher.usable_cores() // 2)}'
        assert '--nproc_per_node=2' in words and '--nnodes=1' in words
        end = ['comad.commands.train', CONFIG, '--sample', '--launcher', 'pytorch']
        assert words[-5:] == end

    def test_threads_of_the_user_stay(self, typed, monkeypatch):
        command = launcher.in_processes
        monkeypatch.setattr(
            distributed,
            'in_processes',
            lambda *given: monkeypatch.setenv('OMP_NUM_THREADS', '5') or command(*given),
        )
        assert typed(distributed.train, CONFIG, '2')[0] == 'OMP_NUM_THREADS=5'

    def test_port_and_nodes(self, typed, monkeypatch):
        free = [word for word in typed(distributed.train, CONFIG, '1') if 'port' in word]
        assert 1024 <= int(free[0].partition('=')[2]) < 65536
        for name, value in (('NNODES', '2'), ('NODE_RANK', '1'), ('MASTER_ADDR', '127.0.0.2')):
            monkeypatch.setenv(name, value)
        words = typed(distributed.train, CONFIG, '1')
        assert {'--master_port=29500', '--node_rank=1', '--master_addr=127.0.0.2'} <= set(words)
        monkeypatch.setenv('PORT', '12345')
        assert '--master_port=12345' in typed(distributed.train, CONFIG, '1')

    def test_config_is_found_from_caller_files_and_by_name(self, typed, tmp_path):
        (tmp_path / 'own.py').write_text('')
        for given, cwd, expected in (
            ('comad_tiny.py', FILES / 'pretrain_configs', CONFIG),
            (CONFIG, tmp_path, CONFIG),
            (str(FILES / CONFIG), tmp_path, str(FILES / CONFIG)),
            ('upernet_comad_tiny', tmp_path, 'seg_configs/upernet_comad_tiny.py'),
            ('own.py', tmp_path, str(tmp_path / 'own.py')),
        ):
            assert typed(distributed.train, given, '1', cwd=cwd)[-3] == expected

    def test_refusals(self, typed, monkeypatch):
        assert 'usage' in typed(distributed.train, CONFIG)
        assert 'nowhere.py' in typed(distributed.train, 'nowhere.py', '2')
        for count in ('0', 'two', '08', '1.5'):
            assert f"'{count}'" in typed(distributed.train, CONFIG, count)
        assert '3 GPUs asked for, 2 here' in typed(distributed.train, CONFIG, '3', gpus=2)
        monkeypatch.setattr(launcher, 'is_known', lambda name: name != 'nowhere')
        monkeypatch.setenv('MASTER_ADDR', 'nowhere')
        assert 'MASTER_ADDR is nowhere' in typed(distributed.train, CONFIG, '2')

    def test_testing_takes_a_checkpoint(self, typed, tmp_path):
        (tmp_path / 'my last.pth').write_text('')
        words = typed(distributed.test, CONFIG, 'my last.pth', '2', cwd=tmp_path)
        end = [CONFIG, str(tmp_path / 'my last.pth'), '--launcher', 'pytorch']
        assert words[-5:] == ['comad.commands.test', *end]
        assert 'lost.pth' in typed(distributed.test, CONFIG, 'lost.pth', '2')
