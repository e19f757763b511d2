"""Training loops that go on, after a kill at any step, exactly where the checkpoint was written."""

import os
import time
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.registry import LOOPS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop
from mmengine.runner.utils import calc_dynamic_intervals
from torch.utils.data import DataLoader

from backbones import CheckpointError
from comad.data.identity import identify
from comad.engine.exact_data import exact_dataloader
from comad.engine.preemption import begin
from comad.engine.segments import SEGMENTS, SETTINGS, add_segment, describe
from comad.runs.environment import git_state
from comad.runs.place import FILES

VALIDATED = 'validated_iter'
EPOCH_BEGAN = 'epoch_began'
IDENTITY = 'run_identity'
END = object()


class ValidatingLoop(BaseLoop):
    """Validation that is due is done, also by a run killed between its checkpoint and then.

    Attributes:
        data_seconds: Seconds spent in waiting for training batches.
    """

    data_seconds = 0.0

    def batches(self) -> Iterator[Any]:
        """What the data loader delivers from where its sampler stands."""
        source = iter(self.dataloader)
        while True:
            began = time.perf_counter()
            batch = next(source, END)
            self.data_seconds += time.perf_counter() - began
            if batch is END:
                return
            yield batch

    @abstractmethod
    def seek(self) -> None:
        """Let the batch sampler go on with the current step."""

    def batch_place(self) -> dict[str, Any] | None:
        """What `place_batch` takes for this process's images of the current step."""
        self.seek()
        batch = next(iter(self.dataloader.batch_sampler))
        epoch, number, _ = batch[0].place
        return dict(batch=[int(index) for index in batch], epoch=epoch, number=number)

    def validation_due(self) -> bool:
        """Whether the position that the loop has reached calls for a validation."""
        if self.runner.val_loop is None:
            return False
        self._decide_current_val_interval()
        place, end = self.validation_place()
        return place >= self.val_begin and (place % self.val_interval == 0 or place == end)

    @abstractmethod
    def validation_place(self) -> tuple[int, int]:
        """What validation intervals count, and where it ends."""

    def validate(self) -> None:
        self.runner.val_loop.run()
        self.runner.message_hub.update_info(VALIDATED, self._iter)

    def validate_if_missed(self) -> None:
        """Do what the resumed run was killed before.

        After the last step always: the record that the validation ends in may be missing too.
        """
        validated = self.runner.message_hub.runtime_info.get(VALIDATED)
        missed = validated != self._iter or self._iter == self._max_iters
        if self._iter and missed and self.validation_due():
            self.validate()


@LOOPS.register_module()
class ResumableEpochLoop(ValidatingLoop, EpochBasedTrainLoop):
    """`EpochBasedTrainLoop` that resumes at any batch of an epoch.

    Used for every config that names MMEngine's, see `BenchmarkRunner.build_train_loop`. Images that
    were seen before the checkpoint are not read again.

    Args:
        runner: The runner that builds this loop.
        dataloader: Config of the training data; see `exact_dataloader`.
        options: As of `EpochBasedTrainLoop`.
    """

    def __init__(self, runner: Any, dataloader: dict[str, Any], *args: Any, **options: Any) -> None:
        super().__init__(runner, exact_dataloader(dataloader, runner.seed), *args, **options)

    def validation_place(self) -> tuple[int, int]:
        return self._epoch, self._max_epochs

    def run(self) -> torch.nn.Module:
        """Train; a due validation that is missing comes first."""
        note_identity(self.runner, self.dataloader)
        self.runner.call_hook('before_train')
        if self.steps_done() == 0:
            self.validate_if_missed()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            if self.validation_due():
                self.validate()
        self.runner.call_hook('after_train')
        return self.runner.model

    def steps_done(self) -> int:
        """Steps of the current epoch that lie behind."""
        # Noted rather than computed: batches grouped by aspect ratio can differ from their number.
        began = self.runner.message_hub.runtime_info.get(EPOCH_BEGAN)
        if began is None:
            return max(0, self._iter - self._epoch * len(self.dataloader))
        return self._iter - began[1] if began[0] == self._epoch else 0

    def begin_epoch(self) -> int:
        """Call the hooks of an epoch's beginning; returns the steps to leave out."""
        done = self.steps_done()
        self.runner.message_hub.update_info(EPOCH_BEGAN, [self._epoch, self._iter - done])
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        return done

    def seek(self) -> None:
        self.dataloader.batch_sampler.begin(self._epoch, skip=self.steps_done())

    def run_epoch(self) -> None:
        """One epoch, or what is left of it."""
        done = self.begin_epoch()
        self.seek()
        for index, batch in enumerate(self.batches(), start=done):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@LOOPS.register_module()
class ResumableIterLoop(ValidatingLoop, IterBasedTrainLoop):
    """`IterBasedTrainLoop` that skips indices instead of reading images when it resumes.

    Used for every config that names MMEngine's. The data is opened when the training begins.

    Args:
        runner: The runner that builds this loop.
        dataloader: Config of the training data; see `exact_dataloader`.
        max_iters: Length of the training.
        val_begin: First step after which to validate.
        val_interval: Steps between validations.
        dynamic_intervals: (step, interval) pairs, intervals from then on.

    Raises:
        ValueError: ``max_iters`` is no whole number.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: dict[str, Any],
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: list[tuple[int, int]] | None = None,
    ) -> None:
        # Not IterBasedTrainLoop's, which starts the workers at once.
        BaseLoop.__init__(self, runner, exact_dataloader(dataloader, runner.seed))
        if int(max_iters) != max_iters:
            raise ValueError(f'train_cfg.max_iters={max_iters}: expected a whole number')
        self._max_iters, self._max_epochs = int(max_iters), 1
        self._epoch = self._iter = 0
        self.val_begin, self.val_interval = val_begin, val_interval
        self.stop_training = False
        runner.visualizer.dataset_meta = getattr(self.dataloader.dataset, 'metainfo', None)
        self.dynamic_milestones, self.dynamic_intervals = calc_dynamic_intervals(
            val_interval, dynamic_intervals
        )

    def validation_place(self) -> tuple[int, int]:
        return self._iter, self._max_iters

    def seek(self) -> None:
        self.dataloader.batch_sampler.begin(0, skip=self._iter, endless=True)

    def run(self) -> torch.nn.Module:
        """Train; a due validation that is missing comes first."""
        note_identity(self.runner, self.dataloader)
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        self.validate_if_missed()
        self.seek()
        batches = self.batches()
        self.runner.model.train()
        while self._iter < self._max_iters and not self.stop_training:
            if not self.runner.model.training:  # telling hundreds of modules takes milliseconds
                self.runner.model.train()
            self.run_iter(next(batches))
            if self.validation_due():
                self.validate()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model


def resumable(loop: dict[str, Any]) -> dict[str, Any]:
    """The config of a training loop with MMEngine's own loops replaced by ours."""
    loop = dict(loop)
    if 'type' not in loop:
        loop['type'] = ResumableEpochLoop if loop.pop('by_epoch') else ResumableIterLoop
        return loop
    kind = LOOPS.get(loop['type']) if isinstance(loop['type'], str) else loop['type']
    ours = {EpochBasedTrainLoop: ResumableEpochLoop, IterBasedTrainLoop: ResumableIterLoop}
    loop['type'] = ours.get(kind, loop['type'])
    return loop


def note_identity(runner: Any, dataloader: DataLoader) -> None:
    """Keep in the checkpoints what the order of the images and all numbers follow from."""
    hub = runner.message_hub
    hub.update_info(IDENTITY, identity(runner, dataloader))
    if not getattr(runner, 'settings', None):  # not started by a command
        return
    if is_main_process():
        begin(runner.work_dir)
    known, git = hub.runtime_info.get(SEGMENTS) or [], git_state(FILES)
    digest, job = runner.options['digest'], os.environ.get('SLURM_JOB_ID')
    segments = add_segment(known, runner.iter, runner.max_iters, digest, git, job)
    hub.update_info(SEGMENTS, segments)
    hub.update_info(SETTINGS, runner.settings)


def identity(runner: Any, dataloader: DataLoader) -> dict[str, Any]:
    """What has to be the same for a run to go on, and the number of processes."""
    per_process = dataloader.batch_sampler.batch_size
    return {
        'seed': runner.seed,
        'training images': len(dataloader.dataset),
        'manifest of the data': identify(dataloader.dataset).manifest,
        'images per step': per_process * get_world_size(),
        'accumulated batches': getattr(runner.optim_wrapper, '_accumulative_counts', 1),
        'processes': get_world_size(),
    }


def check_identity(runner: Any, seed: int) -> None:
    """Whether a resumed run can go on at its checkpoint's position.

    With the same seed, data, images per step and accumulated batches it can, bit by bit if the
    processes are as many as before. Another number of processes with the same images per step
    (2 x 4, 1 x 8) goes on at the same image, with other draws of the augmentation, and says so.
    Anything else would leave images out or see them twice, under a schedule meant for other steps.

    Args:
        runner: After the checkpoint has been loaded.
        seed: What this run was configured with; MMEngine silently takes over the checkpoint's.

    Raises:
        CheckpointError: one of them differs.
    """
    before = runner.message_hub.runtime_info.get(IDENTITY)
    if before is None:  # a checkpoint of MMEngine's own
        return
    now = {**identity(runner, runner.train_dataloader), 'seed': seed}
    for name, value in now.items():
        # An earlier version's has no manifest, and the data may get one meanwhile.
        if name != 'processes' and None not in (value, before.get(name)) and before[name] != value:
            raise CheckpointError(describe(name, str(before[name]), str(value), ''))
    if before['processes'] != now['processes']:
        runner.logger.warning(
            f'resuming with {now["processes"]} instead of {before["processes"]} processes: the '
            'same images per step, but not the same bits'
        )
