"""Results per class, beside a run: too many for its record, and what a mean hides."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from backbones.files import write_json

FILE = 'per_class.json'


@HOOKS.register_module()
class PerClassHook(Hook):
    """Writes ``per_class.json`` into the work dir: metric -> class -> percent, null for no figure.

    After every validation and after a test, so the last one stays. The figures are those that a
    metric keeps as ``per_class``; without such a metric no file is written.
    """

    priority = 'VERY_LOW'

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Write what the validation's metrics keep."""
        self._write(runner, runner.val_evaluator)

    def after_test_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Write what the test's metrics keep."""
        self._write(runner, runner.test_evaluator)

    @staticmethod
    def _write(runner: Any, evaluator: Any) -> None:
        if not is_main_process():
            return
        found: dict[str, dict[str, float | None]] = {}
        for metric in evaluator.metrics:
            found |= getattr(metric, 'per_class', {})
        if found:
            path = Path(runner.work_dir) / FILE
            write_json(path, {'metrics': found}, indent=1, ensure_ascii=False)
