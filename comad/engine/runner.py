"""The Runner of every task: pretraining, classification, segmentation and detection."""

import atexit
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, is_main_process, master_only
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper, revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, Runner
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import DataLoader

from backbones import CheckpointError, check_strides
from backbones.student import LoadsStudent
from comad.engine import bridges, group
from comad.engine.autocast import keep_geometry
from comad.engine.checkpoint_files import BACKEND, check_checkpoint, newest_valid
from comad.engine.checkpointing import PlainCheckpointHook, SafeCheckpointHook, restore_rank_buffers
from comad.engine.console import (
    SHOWN,
    describe_start,
    introduce,
    printed_to_log,
    quiet_console,
)
from comad.engine.hooks.bad_images import BadImagesHook
from comad.engine.hooks.preemption import PreemptionHook
from comad.engine.hooks.run_info import flush_losses
from comad.engine.loops import check_identity, resumable
from comad.engine.models import compiles, prepare_compiling, unwrapped
from comad.engine.preemption import protect_worker
from comad.engine.schedule_state import base_rates, current_rates, restart_schedule
from comad.engine.segments import SETTINGS, changes, describe, refusal
from comad.runs.place import get_track
from comad.runs.track import FULL

FIRST_STEPS = ('before_train_epoch', 'before_val_epoch', 'before_test_epoch')
BEGUN: set[str] = set()  # the runs of this process, by their log folders
# What is done for the first time between two hooks, and may fail by what a run was given.
FIRST_TIMES = {
    'before_train_iter': 'the first training step',
    'before_val_epoch': 'the first validation',
    'before_test_epoch': 'the first test',
}
PROOFS = {'after_train_iter', 'after_val_epoch', 'after_test_epoch'}


@RUNNERS.register_module()
class BenchmarkRunner(Runner):
    """MMEngine's Runner with complete loading, atomic checkpoints and processes on CPUs.

    Differences: checkpoints are loaded strictly; a resumed run does not need the student's file
    again; a test without a checkpoint still loads the student; several processes on a CPU talk
    over gloo; a detector whose strides disagree does not start; the learning rate is scaled with
    accumulated batches, and another batch than the recipe's is pointed out. On a CPU a
    resumed run equals the uninterrupted one bit by bit; on a GPU its draws do, and kernels may
    differ in the last bits. See `check_identity` for other numbers of processes.

    Attributes:
        options: Those of the command that started it, and the config's digest; see `RunOptions`.
        settings: What of the config decides its numbers; empty where no command started it.
        phase: ``start``, one of `FIRST_TIMES` while it runs, then ''.
    """

    options: dict[str, Any] = {}
    settings: dict[str, str] = {}
    phase = 'start'
    proven: set[str] = set()

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Join the processes before MMEngine would, see `group.join`."""
        if self.launcher in ('pytorch', 'slurm') and not torch.distributed.is_initialized():
            group.join(self.launcher, env_cfg)
            # Threads of a group that is open when the process ends can abort it.
            atexit.register(group.leave)
        bridges.format_configs_once()
        super().setup_env(env_cfg)
        # MMEngine tells the logs of two runs apart by the second in which they began.
        start, count = self._timestamp, 1
        while self._timestamp in BEGUN:
            count += 1
            self._timestamp = f'{start}_{count}'
        BEGUN.add(self._timestamp)

    def build_logger(self, *args: Any, **options: Any) -> MMLogger:
        """MMEngine's logger; what comes before the first step is for its file, see `introduce`."""
        logger = super().build_logger(*args, **options)
        self.console = quiet_console(logger)
        return logger

    def call_hook(self, fn_name: str, **options: Any) -> None:
        """Call a method of all hooks; on the way, say what runs and let the console begin."""
        if fn_name == 'before_run':
            self.logger.info(introduce(self), extra=SHOWN)
        elif fn_name in FIRST_STEPS and not self.console.started:
            if fn_name == 'before_train_epoch':
                self.logger.info(describe_start(self), extra=SHOWN)
            self.console.started = True
        if fn_name in FIRST_TIMES and fn_name not in self.proven:
            self.phase = FIRST_TIMES[fn_name]
        super().call_hook(fn_name, **options)
        if fn_name in PROOFS:
            self.phase = ''
            self.proven = {*self.proven, fn_name.replace('after', 'before')}

    def build_model(self, model: nn.Module | dict[str, Any]) -> nn.Module:
        """Build the model and compare the strides of its backbone, neck and heads.

        Under autocast boxes stay in float32, see `keep_geometry`.
        """
        model = super().build_model(model)
        check_strides(model)
        keep_geometry(model)
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

    def register_hook(self, hook: Hook | dict[str, Any] | None, priority: Any = None) -> None:
        """Register a hook; checkpoints come after all others, which still change what is saved.

        One that a config has set to None is left out; MMEngine does so with six of its own only.
        """
        if hook is None:
            return
        super().register_hook(hook, priority)
        self._hooks.sort(key=_saving_order)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict[str, Any],
        seed: int | None = None,
        diff_rank_seed: bool = False,
    ) -> DataLoader:
        """Build a loader whose workers leave signals to the trainer, see `protect_worker`."""
        if isinstance(dataloader, dict) and not dataloader.get('num_workers'):
            # Which torch refuses without workers; the number alone is to be changed.
            workers = dict(persistent_workers=False, prefetch_factor=None)
            dataloader = {**dataloader, **{k: v for k, v in workers.items() if k in dataloader}}
        loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        loader.worker_init_fn = partial(protect_worker, loader.worker_init_fn)
        return loader

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

    def _maybe_compile(self, target: str) -> None:
        """Compile the parts that a pretraining method names; MMEngine compiles a whole step.

        ``compile='auto'`` compiles on GPUs only. Everything else is MMEngine's.
        """
        options, model = self.cfg.get('compile'), unwrapped(self.model)
        if options and not compiles(options, model):
            options = self.cfg.compile = False
        elif options == 'auto':
            options = self.cfg.compile = True
        if not options or not hasattr(model, 'compile_parts'):
            return super()._maybe_compile(target)
        prepare_compiling()
        model.compile_parts(**(options if isinstance(options, dict) else {}))
        self.logger.info('Compiling networks: the first step takes minutes, the others less')

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
        elif batch != base and not get_track(self.cfg.get('run', {}).get('track', FULL)).stand_ins:
            self.logger.warning(
                f"batch {batch} ({parts}) with the learning rate of the recipe's {base}: "
                'make them agree with --accumulate N, or scale the rate with --auto-scale-lr'
            )

    def build_evaluator(self, evaluator: Any) -> Evaluator:
        """Build an evaluator whose metrics collect their results over the process group.

        By default they would meet in a folder of the current directory, which file systems of a
        cluster may show too late, and which all runs share.
        """
        evaluator = super().build_evaluator(evaluator)
        for metric in evaluator.metrics:
            if metric.collect_device == 'cpu' and metric.collect_dir is None:
                metric.collect_device = 'gpu'  # whatever the group runs on
        return evaluator

    def build_train_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """Build the loop, MMEngine's own ones as those that resume exactly.

        Unreadable images are found on the way, see `BadImagesHook`.
        """
        self._train_dataloader = self._checked(self._train_dataloader, training=True)
        with printed_to_log(self.logger):
            return super().build_train_loop(resumable(loop) if isinstance(loop, dict) else loop)

    def build_val_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """Likewise; an evaluation replaces nothing."""
        self._val_dataloader = self._checked(self._val_dataloader)
        with printed_to_log(self.logger):
            return super().build_val_loop(loop)

    def build_test_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """Likewise; an evaluation replaces nothing."""
        self._test_dataloader = self._checked(self._test_dataloader)
        with printed_to_log(self.logger):
            return super().build_test_loop(loop)

    def _checked(self, dataloader: Any, training: bool = False) -> Any:
        for hook in self.hooks:
            if isinstance(hook, BadImagesHook):
                dataloader = hook.wrap(self, dataloader, training)
        return dataloader

    def _init_model_weights(self) -> None:
        if self._resume and self._resume_path() is not None:
            for module in self.model.modules():
                if isinstance(module, LoadsStudent):
                    module.init_student = None
        super()._init_model_weights()

    def _resume_path(self) -> Path | None:
        """What to resume from; the first process looks, so that all take the same file."""
        if not hasattr(self, '_found'):
            self._found: list[Any] = [None, []]
            if is_main_process():
                try:
                    if self._load_from:
                        self._found = [check_checkpoint(self._load_from), []]
                    else:
                        self._found = list(newest_valid(self.work_dir))
                except CheckpointError as error:
                    self._found = [error, []]
            broadcast_object_list(self._found)
        if isinstance(self._found[0], CheckpointError):
            raise self._found[0]
        return self._found[0]

    def load_or_resume(self) -> None:
        """Resume from the newest complete checkpoint of the work dir or the one that was named."""
        if not self._has_loaded and self._resume and self._load_from is None:
            path = self._resume_path()
            for problem in self._found[1]:
                self.logger.warning(f'{problem}: resuming from {path} instead')
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

    def resume(self, filename: str, **options: Any) -> None:
        """Resume; raises CheckpointError where this run cannot go on at the checkpoint's place.

        With another length of the training, or ``--extend`` and another schedule, the learning
        rates are from here on those that the new schedule has at this step. Unless they are the
        same until here, that has to be asked for.
        """
        seed, rates = self.seed, base_rates(self)
        super().resume(filename, **options)
        check_identity(self, seed)
        before = self.message_hub.runtime_info.get(SETTINGS)
        if not self.settings or before is None:
            return
        differ = changes(before, self.settings)
        extend = self.options['extend']
        if reason := refusal(differ, extend):
            raise CheckpointError(reason)
        if not differ:
            return
        if self.iter >= self.max_iters:
            raise CheckpointError(
                f'the checkpoint has {self.iter} steps, this training ends after {self.max_iters}'
            )
        trained_at = current_rates(self)
        restart_schedule(self, rates)
        if not extend and current_rates(self) != trained_at:
            key, (then, now) = next(iter(differ.items()))
            way = ', add --extend to go on with the learning rates of the new schedule'
            raise CheckpointError(describe(key, then, now, way))

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool = True,
        revise_keys: list = [(r'^module\.', '')],  # noqa: B006 (MMEngine's signature)
    ) -> dict[str, Any]:
        """Load a checkpoint of this model, by default completely or not at all."""
        checkpoint = super().load_checkpoint(filename, map_location, strict, revise_keys)
        checkpoint.get('meta', {}).pop('config', None)  # which MMEngine would run as Python
        if self._resume:
            restore_rank_buffers(self.model, checkpoint)
        for module in self.model.modules():
            if isinstance(module, LoadsStudent):
                module.loaded = True
        return checkpoint

    def test(self) -> dict[str, float]:
        """Test; without a checkpoint the student is loaded as before a training."""
        if self._load_from is None and not self._has_loaded:
            self._init_model_weights()
        return super().test()

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, **options: Any) -> None:
        """Write atomically and with a digest, so that a kill never leaves half a file."""
        flush_losses(self)
        options['backend_args'] = dict(backend=BACKEND)
        super().save_checkpoint(out_dir, filename, **options)


def _saving_order(hook: Hook) -> int:
    """Sort key: what changes the saved state, what makes it plain, what saves, what then stops."""
    kinds = (PlainCheckpointHook, SafeCheckpointHook, PreemptionHook)
    return next((place for place, kind in enumerate(kinds, 1) if isinstance(hook, kind)), 0)
