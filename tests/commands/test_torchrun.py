"""torchrun's replacement: signals reach the training, a failed process is named in one line."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from comad.commands import torchrun

TORCHRUN = [sys.executable, '-m', 'comad.commands.torchrun', '--nproc_per_node=2']
SOURCE = str(Path(torchrun.__file__).parents[2])
SIGNALS = (signal.SIGUSR1, signal.SIGINT, signal.SIGTERM)


def test_hands_every_signal_on_and_waits(tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', SOURCE)
    script = tmp_path / 'worker.py'
    script.write_text(
        'import os, signal, sys, time\nfrom pathlib import Path\n'
        'def note(number, frame):\n'
        '    Path(f\'got{int(number)}_{os.environ["RANK"]}\').touch()\n'
        f'    if len(list(Path().glob(f\'got*_{{os.environ["RANK"]}}\'))) == {len(SIGNALS)}:\n'
        '        time.sleep(1)\n        sys.exit(75)\n'
        f'for number in {[int(s) for s in SIGNALS]}:\n    signal.signal(number, note)\n'
        'Path(f\'ready{os.environ["RANK"]}\').touch()\n'
        'for _ in range(600):\n    time.sleep(0.1)\n'
    )
    run = subprocess.Popen(
        [*TORCHRUN, str(script)], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )

    def wait_for(pattern: str) -> None:
        end = time.monotonic() + 50
        while len(list(tmp_path.glob(pattern))) < 2:
            assert time.monotonic() < end and run.poll() is None, pattern
            time.sleep(0.05)

    wait_for('ready*')
    for number in SIGNALS:
        run.send_signal(number)
        wait_for(f'got{int(number)}_*')
    said = run.communicate(timeout=50)[1]
    assert run.returncode == 75 and 'Traceback' not in said and 'error' not in said


def test_a_killed_process_is_named_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', SOURCE)
    script = tmp_path / 'worker.py'
    script.write_text(
        "import os, time\nif os.environ['RANK'] == '0':\n    time.sleep(60)\n"
        'os.kill(os.getpid(), 9)\n'
    )
    done = subprocess.run(
        [*TORCHRUN, str(script)], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 137
    own = [line for line in done.stderr.splitlines() if 'Error' in line or 'error:' in line]
    assert own == ['error: process 1 was ended by SIGKILL; the others were stopped']


@pytest.mark.parametrize(
    ('code', 'status', 'said'),
    [
        (2, 2, ''),  # refused: the process has said why
        (75, 75, ''),
        (130, 130, ''),
        (1, 1, 'error: process 1 failed with status 1; the others were stopped\n'),
        (-9, 137, 'error: process 1 was ended by SIGKILL; the others were stopped\n'),
    ],
)
def test_status_and_line_of_the_first_failure(capsys, code, status, said):
    failure = ProcessFailure(local_rank=1, pid=1, exitcode=code, error_file='none')
    assert torchrun.report(ChildFailedError('train', {1: failure})) == status
    assert capsys.readouterr().err == said
