"""What a person sees before the first training line, and what the log file holds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from comad.data.sample.write import SampleSizes, write_sample
from comad.engine import console
from comad.runs.place import FILES
from tests.engine.toy import run, toy_config

FIRST = re.compile(r'(Epoch|Iter)\(train\)')
SIZES = SampleSizes(imagenet_train=150, imagenet_val=20, scenes_train=40, scenes_val=8)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder to run in, with a small sample."""
    folder = tmp_path_factory.mktemp('look')
    write_sample(folder / 'data/sample', seed=3, sizes=SIZES)
    return folder


@pytest.mark.parametrize(
    ('leaf', 'parts'),
    [
        ('pretrain_configs/mae_tiny', ['150 images of data/sample/imagenet/train', 'GFLOP per']),
        ('cls_configs/linear_comad_tiny', ['linear of scratch_tiny', 'then 20 images of']),
        ('seg_configs/upernet_comad_tiny', ['upernet of scratch_tiny', '40 images of data/sample']),
        ('det_configs/mask_rcnn_comad_tiny', ['mask_rcnn of scratch', '40 images of data/sample']),
    ],
)
def test_the_first_training_line_comes_at_once(folder, leaf, parts):
    command = [sys.executable, str(FILES / 'tools/train.py'), f'{FILES / leaf}.py']
    command += ['--sample', '--cfg-options', 'default_hooks.logger.interval=1']
    if leaf.startswith('pretrain'):
        command += ['default_hooks.online_probe=None']  # of more images than these
    else:
        command += ['--student', 'scratch_tiny']
    started = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = []
    for line in started.stdout:
        lines.append(line)
        if FIRST.search(line):
            break
    started.kill()
    started.communicate()
    assert FIRST.search(lines[-1]), ''.join(lines)
    assert 4 <= len(lines) - 1 <= 10, ''.join(lines)
    look = ''.join(lines)
    assert all(part in look for part in [*parts, 'seed 0, on the embedded sample', 'from step 1 '])
    log = folder / re.search(r'files +(\S+), everything', look)[1] / re.search(r'\S+\.log', look)[0]
    kept = log.read_text()
    for text in ('System environment', 'PyTorch', 'Hooks will be executed', 'default_hooks = dict'):
        assert text in kept
    # The last line was on the console when the run was ended, maybe not yet in the file.
    assert all(line.split(' INFO - ')[-1].rstrip() in kept for line in lines[:-1])


def test_warnings_of_libraries_are_in_the_file_only(tmp_path, capsys):
    told = []
    kept = console._LibraryWarnings()
    kept.shown = lambda *args: told.append(str(args[0]))
    kept.show('an old name', UserWarning, pytest.__file__, 1)  # before there is a log
    kept.show("the user's own", UserWarning, str(tmp_path / 'my.py'), 1)
    config = toy_config(tmp_path, experiment_name='look', auto_scale_lr=dict(base_batch_size=32))
    config.log_level = 'INFO'
    runner = run(config)
    kept.write_to(runner.logger)
    kept.show('another old name', UserWarning, pytest.__file__, 1)
    shown, log = capsys.readouterr().out, Path(runner.logger._log_file).read_text()
    assert told == ["the user's own"]
    assert log.count('old name') == 2 and 'old name' not in shown
    # What is ours to warn of is shown before the first step, and then everything is.
    assert shown.index("learning rate of the recipe's 32") < shown.index('from step 1 of 8')
    assert 'Saving checkpoint at 2 epochs' in shown
    assert 'System environment' in log and 'System environment' not in shown
