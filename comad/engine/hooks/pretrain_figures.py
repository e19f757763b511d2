"""`PretrainFigureHook`: leaves its curves and a method's own figure beside a pretraining."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from comad.data.views import centre_views
from comad.engine.hooks.online_probe import HISTORY
from comad.engine.models import eagerly, unwrapped
from comad.methods.base import seeded
from comad.methods.parts.attention import AttentionSummary
from comad.methods.parts.diagnostics import Explanation
from comad.visualization.attention import draw_attention
from comad.visualization.pretraining import CURVES_FIGURE, draw_curves, draw_explanation

STATE = 'pretrain_curves'
# What `explain` may give: the figure's file, how it is drawn, and a note on how to read it.
EXPLANATIONS = {
    Explanation: (
        'consensus.png',
        draw_explanation,
        'white: nothing there; weights from 0, dark, to 1, yellow',
    ),
    AttentionSummary: ('attention.png', draw_attention, 'attention between patches'),
}


@HOOKS.register_module()
class PretrainFigureHook(Hook):
    """Collects what a pretraining logs, and draws it in the end.

    ``diagnostics.png``: every logged figure over the steps, each point a mean over a few steps.
    The points go into the checkpoints, so a resumed run draws the whole curve.
    A second figure shows what ``model.explain`` says about a few training images as centre crops:
    ``consensus.png`` (CoMAD), ``attention.png`` (Hybrid Distill), none for a method that explains
    nothing. Both are drawn by the main process only, and a figure that cannot be drawn costs a
    warning, never the run.

    Args:
        images: how many the second figure is about; rows of consensus.png.
        points: points per curve, at most.
        size: edge of the images; default the student's own.
        resize: shorter edge before the centre is cut; default ``size`` / 0.875.
    """

    # After the export of the student: a figure is the least that a run leaves.
    priority = 'LOWEST'

    def __init__(
        self, images: int = 4, points: int = 400, size: int | None = None, resize: int | None = None
    ) -> None:
        if images < 1 or points < 2:
            raise ValueError(
                f'PretrainFigureHook images={images}, points={points}: expected at least 1 and 2'
            )
        self.images, self.points, self.size, self.resize = images, points, size, resize
        self.curves: dict[str, list[list[float]]] = {}
        # Of each figure the sum, on its device, and the count.
        self.sums: dict[str, list[Any]] = {}

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if not is_main_process():
            return
        for name, value in (outputs or {}).items():
            held = self.sums.setdefault(name, [0.0, 0.0])
            # Summed where it lies: reading it would make the host wait for the device.
            held[0] = held[0] + (
                value.detach().double() if isinstance(value, torch.Tensor) else float(value)
            )
            held[1] += 1
        step = runner.iter + 1
        if step % max(1, runner.max_iters // self.points) == 0 or step == runner.max_iters:
            for name, (total, count) in self._read_sums().items():
                self.curves.setdefault(name, []).append([step, total / count])
            self.sums = {}

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint[STATE] = {'curves': self.curves, 'sums': self._read_sums()}

    def _read_sums(self) -> dict[str, list[float]]:
        """Sum and count by name, as numbers; one transfer for all that lies on the device."""
        if not self.sums:
            return {}
        totals = torch.stack(
            [torch.as_tensor(t, dtype=torch.double) for t, _ in self.sums.values()]
        )
        return {
            name: [total, float(count)]
            for (name, (_, count)), total in zip(self.sums.items(), totals.tolist(), strict=True)
        }

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        # Weights taken over from another run do not bring its curves along.
        if runner._resume and STATE in checkpoint:
            self.curves = {name: [*points] for name, points in checkpoint[STATE]['curves'].items()}
            self.sums = {name: [*held] for name, held in checkpoint[STATE]['sums'].items()}

    def after_train(self, runner: Any) -> None:
        if not is_main_process():
            return
        self._attempt(runner, CURVES_FIGURE, self._draw_curves)
        self._attempt(runner, "the method's own figure", self._draw_explanation)

    def _attempt(self, runner: Any, what: str, draw: Callable[[Any, Path], Path | None]) -> None:
        try:
            path = draw(runner, Path(runner.work_dir))
        except Exception as error:  # whatever goes wrong in a figure, the run has succeeded
            runner.logger.warning(f'{what} was not drawn: {type(error).__name__}: {error}')
            return
        if path is not None:
            runner.logger.info(f'figure written to {path}')

    def _draw_curves(self, runner: Any, folder: Path) -> Path:
        curves = dict(self.curves)
        for entry in runner.message_hub.runtime_info.get(HISTORY) or []:
            for name, value in entry.items():
                if name.startswith('probe_'):
                    curves.setdefault(name, []).append([entry['step'], value])
        caption = f'{_name(runner)}: figures of the training'
        return draw_curves(curves, folder / CURVES_FIGURE, caption)

    @torch.no_grad()
    def _draw_explanation(self, runner: Any, folder: Path) -> Path | None:
        model = unwrapped(runner.model)
        dataset = runner.train_dataloader.dataset
        size = self.size or model.backbone.architecture()['img_size']
        was_training = model.training
        model.eval()
        try:
            with seeded(runner.seed), eagerly():
                rows = torch.randperm(len(dataset))[: self.images].tolist()
                view = centre_views(dataset, size, self.resize)
                images = torch.stack([view[row]['inputs'] for row in rows])
                data = model.data_preprocessor({'inputs': images}, False)
                explanation = model.explain(data['inputs'])
        finally:
            model.train(was_training)
        if explanation is None:
            return None
        file, draw, note = EXPLANATIONS[type(explanation)]
        caption = f'{_name(runner)}: training images; {note}'
        return draw(images, explanation, folder / file, caption)


def _name(runner: Any) -> str:
    run = runner.cfg.get('run') or {}
    return run.get('student') or runner.experiment_name
