"""What commands on the sample write before they start."""

from pathlib import Path

import pytest

from comad.commands import made_first, pretrain
from comad.engine.options import RunOptions
from comad.engine.run_config import load_run_config
from comad.runs.place import FILES
from comad.sweep.step import Step


@pytest.mark.parametrize(
    ('leaf', 'root', 'name', 'option'),
    [
        ('amd_video_small', 'data/sample_video/kinetics400', 'video_data', '--video'),
        ('mae_tiny', 'data/sample/imagenet', 'data', 'sample'),
    ],
)
def test_data_that_are_not_there_are_made(leaf, root, name, option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = str(FILES / f'pretrain_configs/{leaf}.py')
    cfg = load_run_config(RunOptions(path, track='sample'), check=False)
    (step,) = made_first.missing_data(cfg)
    assert step.name == name and step.command[-1] == option
    Path(root).mkdir(parents=True)
    assert made_first.missing_data(cfg) == []
    # Data of full scale, or elsewhere, are nobody's to make.
    for other in ('data/imagenet', '/nowhere'):
        cfg.train_dataloader.dataset.root = other
        assert made_first.missing_data(cfg) == []


@pytest.mark.parametrize('sample', [['--sample'], ['--track', 'sample']])
def test_pretraining_starts_only_on_what_was_made(tmp_path, monkeypatch, capsys, sample):
    monkeypatch.chdir(tmp_path)
    started = []
    monkeypatch.setattr(pretrain, 'become', lambda command, dry_run: started.append(command))
    for code in (1, 0):
        step = Step('clips', ('python', '-c', f'open("x", "w").write("x"); exit({code})'), ('x',))
        monkeypatch.setattr(made_first, 'missing_data', lambda cfg, step=step: [step])
        assert not started
        assert pretrain.main(['amd_video', *sample]) == (code or None)
    (command,) = started
    assert command[-len(sample) :] == sample and 'amd_video_small' in ' '.join(command)
    assert 'made first, about 30 s on one core: clips' in capsys.readouterr().out
