"""k-NN accuracy during a pretraining, so that a bad run is seen after hours, not after days."""

import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from backbones.contract import usual_size
from comad.data.views import centre_views
from comad.engine.hooks.wall_time import untimed
from comad.engine.models import eagerly, unwrapped
from comad.evaluation.features import POOLS, check_pools, pooled_features
from comad.evaluation.knn import weighted_votes
from comad.evaluation.metrics import gather_in_order
from comad.methods.base import seeded

HISTORY = 'online_probe'


@HOOKS.register_module()
class OnlineProbeHook(Hook):
    """Classifies a slice of the *training* split by the k-NN of another slice of it.

    Both slices are drawn once by the run's seed, share no image and are seen as centre crops; the
    validation split stays untouched. The pretraining has seen the images of both slices, though
    never their labels, so the figure compares epochs and runs; it is no validation accuracy.

    The probe changes nothing in the training: random states are restored, the student is in eval
    mode only meanwhile, and its seconds do not count as pretraining. All processes share the
    images. Figures go to the visualizer as ``probe_knn_<pool>`` (percent), to one log line, and
    into the checkpoints.

    Args:
        interval: epochs between two probes; the last epoch is always probed. Our choice.
        bank: images to compare with. Our choice.
        queries: images to classify. Our choice.
        k: neighbours, DINO's 20.
        temperature: of the votes, DINO's 0.07.
        pools: see `pooled_features`.
        size: edge of the images; default the student's own.
        resize: shorter edge before the centre is cut; default ``size`` / 0.875.
        batch_size: images per forward pass and process.

    Raises:
        ValueError: a count below 1, k above ``bank``, or more images than the training split has.
    """

    priority = 'NORMAL'  # before the checkpoint is written, which then holds the figures

    def __init__(
        self,
        interval: int = 10,
        bank: int = 20000,
        queries: int = 2000,
        k: int = 20,
        temperature: float = 0.07,
        pools: Sequence[str] = POOLS,
        size: int | None = None,
        resize: int | None = None,
        batch_size: int = 256,
    ) -> None:
        if min(interval, bank, queries, k, batch_size) < 1 or k > bank:
            raise ValueError(
                f'OnlineProbeHook interval={interval}, bank={bank}, queries={queries}, k={k}, '
                f'batch_size={batch_size}: expected at least 1 each, and k at most bank'
            )
        self.interval, self.bank, self.queries = interval, bank, queries
        self.k, self.temperature, self.pools = k, temperature, check_pools(pools)
        self.size, self.resize, self.batch_size = size, resize, batch_size

    def before_train(self, runner: Any) -> None:
        have, need = len(runner.train_dataloader.dataset), self.bank + self.queries
        if need > have:
            raise ValueError(
                f'OnlineProbeHook bank={self.bank}, queries={self.queries}: the training split '
                f'has {have} images; expected {need} or more. Lower both, or switch the probe off: '
                '--cfg-options default_hooks.online_probe=None'
            )

    def after_train_epoch(self, runner: Any) -> None:
        epoch = runner.epoch + 1
        if epoch % self.interval and epoch != runner.max_epochs:
            return
        started = time.perf_counter()
        with untimed(runner), seeded(runner.seed), eagerly():
            accuracy = self.probe(runner)
        figures = {f'probe_knn_{pool}': value for pool, value in accuracy.items()}
        history = [*(runner.message_hub.runtime_info.get(HISTORY) or [])]
        history.append({'epoch': epoch, 'step': runner.iter, **figures})
        runner.message_hub.update_info(HISTORY, history)
        runner.visualizer.add_scalars(figures, step=runner.iter)
        shown = ', '.join(f'{value:.2f} % ({pool})' for pool, value in accuracy.items())
        runner.logger.info(
            f'Online probe after epoch {epoch}: {self.k}-NN top-1 {shown}, {self.queries} training '
            f'images against {self.bank}, {time.perf_counter() - started:.1f} s'
        )

    @torch.no_grad()
    def probe(self, runner: Any) -> dict[str, float]:
        """Top-1 accuracy in percent per pool, the same on every process."""
        model = unwrapped(runner.model)
        backbone = model.exported
        was_training = backbone.training
        backbone.eval()
        try:
            features, labels = self._features(runner, model, backbone)
        finally:
            backbone.train(was_training)
        accuracy, truth = {}, labels[self.bank :]
        for pool, x in features.items():
            known, asked = x[: self.bank], x[self.bank :]
            votes = weighted_votes(
                asked,
                known,
                labels[: self.bank],
                int(labels.max()) + 1,
                (self.k,),
                self.temperature,
            )[self.k]
            accuracy[pool] = 100 * float((votes.argmax(1) == truth).float().mean())
        return accuracy

    def _features(self, runner: Any, model: Any, backbone: Any) -> tuple[dict[str, Tensor], Tensor]:
        """Unit features (bank + queries, D) per pool and labels, gathered from all processes."""
        dataset = runner.train_dataloader.dataset
        size = self.size or usual_size(backbone)
        # Every process draws the same images, and seeded() has just fixed the generator.
        chosen = torch.randperm(len(dataset))[: self.bank + self.queries]
        world, rank = get_world_size(), get_rank()
        padded = torch.cat([chosen, chosen[: -len(chosen) % world]])
        loader = DataLoader(
            Subset(centre_views(dataset, size, self.resize), padded[rank::world].tolist()),
            batch_size=self.batch_size,
            num_workers=runner.train_dataloader.num_workers,
            collate_fn=pseudo_collate,
        )
        features: dict[str, list[Tensor]] = {pool: [] for pool in self.pools}
        labels = []
        for batch in loader:
            data = model.data_preprocessor(batch, False)
            labels.append(data['labels'])
            for pool, x in pooled_features(backbone, data['inputs'], self.pools).items():
                features[pool].append(F.normalize(x, dim=1))
        gathered = {
            pool: gather_in_order(torch.cat(x), len(chosen)) for pool, x in features.items()
        }
        return gathered, gather_in_order(torch.cat(labels), len(chosen))
