"""`LinearProbeLoop`: epochs over images, or over features that were computed once."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.logging import MMLogger
from mmengine.registry import LOOPS
from mmengine.runner import Runner
from torch import Tensor

from comad.engine.loops import ResumableEpochLoop
from comad.engine.models import unwrapped
from comad.evaluation.feature_bank import LABELS
from comad.evaluation.features import stack_rows

Features = dict[str, Any]


@LOOPS.register_module()
class LinearProbeLoop(ResumableEpochLoop):
    """Epoch loop of the linear probe.

    With ``cached_passes=0`` every epoch computes the features of freshly augmented images. With
    ``cached_passes=n`` the features of n augmented passes over the images are computed before the
    first epoch, and epoch e trains on pass e mod n, in a new order: the same steps for the heads,
    without the same forward pass over and over. Meant for data of few images, where a probe needs
    many epochs to converge.

    Args:
        runner: The runner that builds this loop; its model is a `LinearProbe`.
        dataloader: Training images.
        max_epochs: Length of the training.
        cached_passes: See above.
        val_begin: First epoch after which to validate.
        val_interval: Epochs between validations.

    Raises:
        ValueError: ``cached_passes`` is negative or above ``max_epochs``.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: dict[str, Any],
        max_epochs: int,
        cached_passes: int = 0,
        val_begin: int = 1,
        val_interval: int = 1,
    ) -> None:
        super().__init__(runner, dataloader, max_epochs, val_begin, val_interval)
        if not 0 <= cached_passes <= max_epochs:
            raise ValueError(f'cached_passes {cached_passes} must lie in 0 to {max_epochs} epochs')
        self.cached_passes = cached_passes
        self.cache: list[tuple[dict[str, Tensor], Tensor]] = []

    def run_epoch(self) -> None:
        """One epoch over images or over cached features."""
        if not self.cached_passes:
            super().run_epoch()
            return
        if not self.cache:
            self.cache = [self._compute_pass(index) for index in range(self.cached_passes)]
            MMLogger.get_current_instance().info(
                f'features of {self.cached_passes} x {len(self.cache[0][1])} images are ready'
            )
        done = self.begin_epoch()
        for index, batch in enumerate(self._cached_batches()):
            if index >= done:
                self._train_on_features(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def batch_place(self) -> dict[str, Any] | None:
        """None for cached features: they are no images to read again."""
        return None if self.cached_passes else super().batch_place()

    def _compute_pass(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        """Features (N, D) per pool and labels (N,) of one pass over this process's images.

        The crops depend on the seed and the pass only, so that a resumed run sees the same.
        """
        self.dataloader.batch_sampler.begin(index)
        model = unwrapped(self.runner.model)
        model.eval()
        batches = (model.data_preprocessor(batch, True) for batch in self.dataloader)
        rows = ({**model.features(data['inputs']), LABELS: data['labels']} for data in batches)
        features = stack_rows(rows, len(self.dataloader) * self.dataloader.batch_sampler.batch_size)
        labels = features.pop(LABELS)
        return features, labels

    def _cached_batches(self) -> Iterator[Features]:
        features, labels = self.cache[self._epoch % self.cached_passes]
        seed = np.random.SeedSequence([self.runner.seed, self._epoch]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(seed))
        order = torch.randperm(len(labels), generator=generator).to(labels.device)
        for rows in order.split(self.dataloader.batch_sampler.batch_size):
            inputs = {pool: values[rows] for pool, values in features.items()}
            yield {'inputs': inputs, 'labels': labels[rows]}

    def _train_on_features(self, index: int, batch: Features) -> None:
        """One step of `BaseModel.train_step`, less the preprocessor, which knows images only."""
        self.runner.call_hook('before_train_iter', batch_idx=index, data_batch=batch)
        model, optim_wrapper = self.runner.model, self.runner.optim_wrapper
        with optim_wrapper.optim_context(model):
            losses = model(**batch, mode='loss')
        loss, outputs = unwrapped(model).parse_losses(losses)
        optim_wrapper.update_params(loss)
        self.runner.call_hook(
            'after_train_iter', batch_idx=index, data_batch=batch, outputs=outputs
        )
        self._iter += 1
