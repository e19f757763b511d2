"""The Runner of every task: pretraining, classification, segmentation and detection."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmengine.device import get_device
from mmengine.dist import master_only
from mmengine.model import MMDistributedDataParallel, is_model_wrapper, revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, Runner
from mmengine.visualization import Visualizer
from torch import nn

from backbones import MaskedViT, Teacher, check_strides
from backbones.checkpoints import CheckpointError, write_atomically

from .checkpointing import last_checkpoint
from .hooks.bad_images import BadImagesHook


@RUNNERS.register_module()
class BenchmarkRunner(Runner):
    """MMEngine's Runner with complete loading, atomic checkpoints and processes on CPUs.

    Differences: checkpoints are loaded strictly; a resumed run does not need the student's file
    again; a test without a checkpoint still loads the student; several processes on a CPU talk
    over gloo; a detector whose strides disagree does not start; the learning rate is scaled with
    accumulated batches, and another batch than the recipe's is pointed out.
    """

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Join the gloo group before MMEngine would ask for a GPU."""
        joined = torch.distributed.is_initialized()
        if self.distributed and not joined and not torch.cuda.is_available():
            torch.distributed.init_process_group('gloo')
        super().setup_env(env_cfg)

    def build_model(self, model: nn.Module | dict[str, Any]) -> nn.Module:
        """Build the model and compare the strides of its backbone, neck and heads."""
        model = super().build_model(model)
        check_strides(model)
        return model

    def build_visualizer(self, visualizer: Visualizer | dict[str, Any] | None = None) -> Visualizer:
        """TensorBoard writes into one folder of the work dir, so that a resumed run goes on there.

        MMEngine's default is a new folder per start.
        """
        if isinstance(visualizer, dict):
            for backend in visualizer.get('vis_backends') or []:
                if isinstance(backend, dict) and backend['type'] == 'TensorboardVisBackend':
                    backend.setdefault('save_dir', str(Path(self.work_dir) / 'tensorboard'))
        return super().build_visualizer(visualizer)

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """On CPUs: SyncBN becomes BN (it has no CPU form) and DDP gets no device ids.

        A model without anything to train, as in k-NN, stays as it is: DDP refuses it.
        """
        if not any(parameter.requires_grad for parameter in model.parameters()):
            return model.to(get_device())
        if not self.distributed or torch.cuda.is_available() or is_model_wrapper(model):
            return super().wrap_model(model_wrapper_cfg, model)
        return MMDistributedDataParallel(
            module=revert_sync_batchnorm(model),
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=False,
        )

    def scale_lr(
        self, optim_wrapper: OptimWrapper, auto_scale_lr: dict[str, Any] | None = None
    ) -> None:
        """Scale the rate with the images per optimizer step, or warn where it should have been.

        MMEngine's own leaves accumulated batches out.
        """
        base = (auto_scale_lr or {}).get('base_batch_size')
        if base is None:
            return
        accumulated = self.cfg.optim_wrapper.get('accumulative_counts', 1)
        per_process = self.cfg.train_dataloader.batch_size
        batch = per_process * self.world_size * accumulated
        parts = f'{per_process} x {self.world_size} processes x {accumulated} accumulated'
        if auto_scale_lr.get('enable', False):
            for group in optim_wrapper.optimizer.param_groups:
                group['lr'] *= batch / base
            self.logger.info(
                f'learning rate x {batch / base:g}: batch {batch} ({parts}), recipe {base}'
            )
        elif batch != base and not self.cfg.get('run', {}).get('sample', False):
            self.logger.warning(
                f"batch {batch} ({parts}) with the learning rate of the recipe's {base}: "
                'make them agree with --accumulate N, or scale the rate with --auto-scale-lr'
            )

    def build_train_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """Build the loop over images of which unreadable ones are found, see `BadImagesHook`."""
        self._train_dataloader = self._checked(self._train_dataloader, training=True)
        return super().build_train_loop(loop)

    def build_val_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """Likewise; an evaluation replaces nothing."""
        self._val_dataloader = self._checked(self._val_dataloader)
        return super().build_val_loop(loop)

    def build_test_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """Likewise; an evaluation replaces nothing."""
        self._test_dataloader = self._checked(self._test_dataloader)
        return super().build_test_loop(loop)

    def _checked(self, dataloader: Any, training: bool = False) -> Any:
        for hook in self.hooks:
            if isinstance(hook, BadImagesHook):
                dataloader = hook.wrap(self, dataloader, training)
        return dataloader

    def _init_model_weights(self) -> None:
        if self._resume and self._resume_path() is not None:
            for module in self.model.modules():
                if isinstance(module, MaskedViT) and not isinstance(module, Teacher):
                    module.init_student = None
        super()._init_model_weights()

    def _resume_path(self) -> Path | None:
        return Path(self._load_from) if self._load_from else last_checkpoint(self.work_dir)

    def load_or_resume(self) -> None:
        """Resume from the newest checkpoint of the work dir or the one that was named."""
        if not self._has_loaded and self._resume and self._load_from is None:
            path = self._resume_path()
            if path is None:
                self.logger.info(
                    f'{self.work_dir} holds no checkpoint: starting from the beginning'
                )
                return
            self._load_from = str(path)
        try:
            super().load_or_resume()
        except CheckpointError:
            raise
        except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
            reason = f'{type(error).__name__}: {" ".join(str(error).split())}'
            raise CheckpointError(
                f'{self._load_from} is no checkpoint of this run ({reason[:300]})'
            ) from error

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool = True,
        revise_keys: list = [(r'^module\.', '')],  # noqa: B006 (MMEngine's signature)
    ) -> dict[str, Any]:
        """Load a checkpoint of this model, by default completely or not at all."""
        checkpoint = super().load_checkpoint(filename, map_location, strict, revise_keys)
        for module in self.model.modules():
            if isinstance(module, MaskedViT):
                module.loaded = True
        return checkpoint

    def test(self) -> dict[str, float]:
        """Test; without a checkpoint the student is loaded as before a training."""
        if self._load_from is None and not self._has_loaded:
            self._init_model_weights()
        return super().test()

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, **options: Any) -> None:
        """Write next to the target and rename, so that a kill never leaves half a file."""

        def write(temporary: Path) -> None:
            super(BenchmarkRunner, self).save_checkpoint(
                str(temporary.parent), temporary.name, **options
            )

        write_atomically(Path(out_dir) / filename, write)
