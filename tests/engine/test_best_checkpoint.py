"""The best checkpoint: replaced after the new one is written, known after a resume."""

import json

import pytest

from comad.engine.checkpoint_files import newest_valid
from comad.engine.hooks import BestCheckpointHook


class Runner:
    """What the hook needs of a Runner; files hold their own names."""

    def __init__(self, folder, step=0):
        self.work_dir, self.iter, self.epoch, self.events = str(folder), step, 0, []
        self.folder = folder

    def save_checkpoint(self, out_dir, name, meta):
        assert meta == dict(epoch=0, iter=self.iter)
        self.events.append(sorted(path.name for path in self.folder.glob('*.pth')))
        (self.folder / name).write_text(name)


def validate(hook, runner, step, **metrics):
    runner.iter = step
    hook.after_val_epoch(runner, metrics)
    return sorted(path.name for path in runner.folder.glob('*.pth'))


@pytest.mark.parametrize(('greater', 'scores'), [(True, (1, 3, 2, 4)), (False, (4, 2, 3, 1))])
def test_the_best_is_kept(tmp_path, greater, scores):
    hook, runner = BestCheckpointHook('top1', greater), Runner(tmp_path)
    hook.before_train(runner)
    assert validate(hook, runner, 10, top1=scores[0]) == ['best_10.pth']
    assert validate(hook, runner, 20, top1=scores[1]) == ['best_20.pth']
    assert runner.events[-1] == ['best_10.pth']  # there while the next one was written
    assert validate(hook, runner, 30, top1=scores[2]) == ['best_20.pth']
    assert validate(hook, runner, 40, top1=float('nan')) == ['best_20.pth']
    resumed = BestCheckpointHook('top1', greater)
    resumed.before_train(Runner(tmp_path, step=15))
    assert validate(resumed, runner, 30, top1=scores[2]) == ['best_20.pth']
    assert validate(resumed, runner, 40, top1=scores[3]) == ['best_40.pth']
    assert json.loads((tmp_path / 'best.json').read_text())['score'] == scores[3]
    assert newest_valid(tmp_path) == (None, [])


def test_a_wrong_metric_is_named(tmp_path):
    hook, runner = BestCheckpointHook('top7'), Runner(tmp_path)
    hook.before_train(runner)
    with pytest.raises(ValueError, match="'top7' among top1, top5"):
        validate(hook, runner, 1, top1=1.0, top5=2.0)
