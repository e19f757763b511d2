"""The best checkpoint on the validation set, as an extra file."""

import math
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from backbones.files import read_json, write_json
from comad.engine.checkpoint_files import remove_checkpoint

CARD = 'best.json'


@HOOKS.register_module()
class BestCheckpointHook(Hook):
    """Keeps ``best_<step>.pth`` beside the run's own checkpoints; ``best.json`` tells its score.

    Neither records nor ``--resume`` ever take it: the suite reports the last checkpoint. The new
    file is complete before the earlier one is removed.

    Args:
        metric: Name among the validation's metrics, such as ``top1``.
        greater: Whether more is better.

    Raises:
        ValueError: the validation reports no such number.
    """

    priority = 'LOWEST'

    def __init__(self, metric: str, greater: bool = True) -> None:
        self.metric, self.greater = metric, greater
        self.training = False

    def before_train(self, runner: Any) -> None:
        self.training = True
        # Not from the message hub: a validation comes after the checkpoint of its step.
        path = Path(runner.work_dir) / CARD
        known = read_json(path) if runner.iter and path.is_file() else {}
        self.best = known if known.get('metric') == self.metric else {}

    def after_train(self, runner: Any) -> None:
        self.training = False

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        if not self.training or not metrics:
            return
        if self.metric not in metrics:
            raise ValueError(
                f'BestCheckpointHook: no metric {self.metric!r} among {", ".join(sorted(metrics))}'
            )
        score = float(metrics[self.metric])
        before = self.best.get('score')
        if math.isnan(score) or (
            before is not None and (score <= before if self.greater else score >= before)
        ):
            return
        old, step = self.best.get('file'), runner.iter
        self.best = dict(metric=self.metric, score=score, step=step, file=f'best_{step}.pth')
        meta = dict(epoch=runner.epoch, iter=step)
        runner.save_checkpoint(runner.work_dir, self.best['file'], meta=meta)
        if not is_main_process():
            return
        write_json(Path(runner.work_dir) / CARD, self.best)
        if old not in (None, self.best['file']):
            remove_checkpoint(Path(runner.work_dir) / old)
