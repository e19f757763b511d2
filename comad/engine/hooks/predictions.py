"""`PredictionFigureHook`: leaves predictions.png beside a finished dense run."""

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner

from comad.tasks.task import FIGURE
from comad.visualization.predictions import draw_predictions


@HOOKS.register_module()
class PredictionFigureHook(Hook):
    """Draws a few test images with ground truth and prediction into the work dir.

    After a test, and after the last validation of a training: the same weights, since the last
    checkpoint is what is reported.

    Args:
        images: Number of rows of the figure.
    """

    priority = 'VERY_LOW'

    def __init__(self, images: int = 4) -> None:
        if images < 1:
            raise ValueError(f'PredictionFigureHook images={images}: at least one row is needed')
        self.images = images

    def after_val(self, runner: Runner) -> None:
        """Draw after the validation that ends the training, not after earlier ones."""
        # A Runner that only validates never builds its train loop: it stays a config or None.
        training = isinstance(runner._train_loop, BaseLoop)
        if training and runner.iter < runner.max_iters:
            return
        self._draw(runner, runner.val_loop.dataloader.dataset)

    def after_test(self, runner: Runner) -> None:
        """Draw after a test."""
        self._draw(runner, runner.test_loop.dataloader.dataset)

    def _draw(self, runner: Runner, dataset: object) -> None:
        if not is_main_process():
            return
        # Not `unwrapped`: a test at several scales is drawn by the model that averages over them.
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        run = runner.cfg.get('run') or {}
        caption = (
            ', '.join(str(run[key]) for key in ('kind', 'student') if key in run)
            or runner.experiment_name
        )
        path = draw_predictions(
            model,
            dataset,
            Path(runner.work_dir) / FIGURE,
            self.images,
            f'{caption}: validation images',
        )
        runner.logger.info(f'predictions of {self.images} images: {path}')
