"""The run record that every finished evaluation leaves."""

import hashlib
import os
import re
import time
from pathlib import Path
from typing import Any

import msgspec
import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from backbones.files import write_text
from backbones.student import CARD_FILE
from comad.data.identity import DataIdentity
from comad.engine.checkpoint_files import checkpoint_digest
from comad.engine.checkpointing import SafeCheckpointHook
from comad.engine.distillation import DISTILL
from comad.engine.failures import RunStopped
from comad.engine.flops import backbone_gflop
from comad.engine.models import unwrapped
from comad.engine.run_data import data_of_test, data_of_training, warn_unranked
from comad.engine.segments import SEGMENTS, digest_of, worth_telling
from comad.runs import questions
from comad.runs.card import StudentCard, read_student_card
from comad.runs.environment import collect_environment
from comad.runs.place import pretrain_dir, results_folder
from comad.runs.record import Environment, resolved_name, write_record
from comad.tasks.protocol import TEST_FIELDS
from comad.tasks.recording import build_record
from comad.tasks.task import get_task

# What a checkpoint says about its training, for a test of it.
FIELDS = 'protocol_fields'
PROCESSES = 'processes'
DATA = 'train_dataset'


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Writes one JSON record with the metrics of the last checkpoint, never of the best one.

    After a training it takes the validation of the last step; a run without a training takes its
    test. The resolved config that the record cites is written into the work dir.

    Args:
        of_test: Also write one after the test of a trained checkpoint. What the training was
            (protocol fields, data, images, seconds, processes) is then read from the checkpoint: a
            test may run with other options and fewer processes.
    """

    priority = 'LOWEST'

    def __init__(self, of_test: bool = False) -> None:
        self.of_test = of_test
        self.trained: dict[str, Any] = {}

    def before_run(self, runner: Any) -> None:
        self.started = time.perf_counter()
        self.validated: tuple[int, dict[str, float]] | None = None

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        self.trained = checkpoint.get('message_hub', {}).get('runtime_info', {})

    def before_train(self, runner: Any) -> None:
        if run := runner.cfg.get('run'):  # a config of others has none
            config = runner.cfg._cfg_dict.to_dict()
            fields = get_task(run.kind).read_protocol(config, get_world_size())
            runner.message_hub.update_info(FIELDS, fields)
            runner.message_hub.update_info(PROCESSES, get_world_size())
            self._begin(runner, *data_of_training(runner))
            runner.message_hub.update_info(DATA, msgspec.to_builtins(self.train_dataset))

    def before_test(self, runner: Any) -> None:
        if runner.cfg.get('run') and (self.of_test or runner.cfg.get('train_cfg') is None):
            bank, dataset = data_of_test(runner)
            if DATA in self.trained:
                bank = msgspec.convert(self.trained[DATA], DataIdentity)
            self._begin(runner, bank, dataset)

    def _begin(
        self, runner: Any, train_dataset: DataIdentity | None, dataset: DataIdentity | None
    ) -> None:
        """Collect what the record will say, and say what will keep it from being ranked."""
        self.train_dataset, self.dataset = train_dataset, dataset
        # A distillation makes its card in the end, before its record.
        self.card = None if runner.cfg.run.folder == DISTILL else _card(runner.cfg.run)
        if not is_main_process():
            return
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu'
        self.environment = collect_environment(device=device, world_size=get_world_size())
        reasons = questions.of_environment(msgspec.convert(self.environment, Environment))
        for section, data in (('dataset', dataset), ('train_dataset', train_dataset)):
            reasons += questions.of_data(section, data) if data is not None else []
        reasons += questions.of_student(self.card) if self.card else []
        warn_unranked(runner, "this run's row", reasons)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        self.validated = (runner.iter, dict(metrics or {}))

    def after_train(self, runner: Any) -> None:
        if self.validated is None or self.validated[0] < runner.max_iters - 1:
            runner.logger.warning('no validation at the last step: no record is written')
            return
        info = runner.message_hub.runtime_info
        self._write(runner, self.validated[1], info['train_seconds'], info['images_seen'])

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        if runner.cfg.get('train_cfg') is None:
            self._write(runner, dict(metrics or {}), time.perf_counter() - self.started, 0)
        elif self.of_test:
            seconds = self.trained.get('train_seconds', 0.0)
            self._write(runner, dict(metrics or {}), seconds, self.trained.get('images_seen', 0))

    def _checkpoint(self, runner: Any) -> Path | None:
        """The file of the weights that were evaluated; None without a training, or if not saved."""
        if runner.cfg.get('train_cfg') is None:
            return None
        if self.of_test and self.trained:
            return Path(runner._load_from)
        saving = [hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)]
        saved = [Path(hook.last_ckpt) for hook in saving if hook.saved_steps == runner.iter]
        if not saved:
            runner.logger.warning(
                'the evaluated weights are in no checkpoint: the row is not ranked'
            )
        return saved[0] if saved else None

    def _write(self, runner: Any, metrics: dict[str, float], seconds: float, images: int) -> None:
        if not is_main_process():
            return
        run, config = runner.cfg.run, runner.cfg._cfg_dict.to_dict()
        if run.folder == DISTILL:
            self.card = _read_card(Path(runner.work_dir))
        backbone = unwrapped(runner.model).backbone
        trained_fields = {
            name: value
            for name, value in self.trained.get(FIELDS, {}).items()
            if self.of_test and name not in TEST_FIELDS
        }
        checkpoint = None
        if (file := self._checkpoint(runner)) is not None:
            place = os.path.relpath(file, runner.work_dir)
            checkpoint = {'file': place, 'sha256': checkpoint_digest(file)}
        trained = self.trained if self.of_test and self.trained else runner.message_hub.runtime_info
        segments = trained.get(SEGMENTS) or []
        resolved = runner.cfg.pretty_text
        record = build_record(
            config,
            metrics,
            self.card,
            self.environment,
            dataset=self.dataset,
            train_dataset=self.train_dataset,
            wall_seconds=seconds,
            images_seen=images,
            architecture=backbone.architecture(),
            params_m=round(sum(p.numel() for p in backbone.parameters()) / 1e6, 4),
            trained_fields=trained_fields,
            checkpoint=checkpoint,
            resolved_sha256=hashlib.sha256(resolved.encode()).hexdigest(),
            processes=self.trained.get(PROCESSES) if self.of_test else None,
            gflops=_gflops(runner, config, backbone),
            segments={'digest': digest_of(segments, str(run.digest)), **worth_telling(segments)},
        )
        write_text(Path(runner.work_dir) / resolved_name(record.task), resolved)
        folder = results_folder(run.track, run.get('data', ''))
        path = write_record(run.records or folder / 'records', record)
        runner.logger.info(f'Run record written to {path}')


def _card(run: Any) -> StudentCard | None:
    """The student's card; None for random weights."""
    if run.method == questions.SCRATCH:
        return None
    return _read_card(pretrain_dir(run.track, run.student, run.pretrain_seed))


def _read_card(folder: Path) -> StudentCard:
    try:
        return read_student_card(folder / CARD_FILE)
    except ValueError as error:
        raise RunStopped(str(error), agreed=True) from None


def _gflops(runner: Any, config: dict[str, Any], backbone: Any) -> float | None:
    """Cost of the backbone at the protocol's resolution, None if it cannot be counted."""
    resolution = get_task(config['run']['kind']).read_protocol(config)['resolution']
    edges = [int(edge) for edge in re.findall(r'\d+', str(resolution))]
    try:
        width, height = edges * 2 if len(edges) == 1 else edges
        return backbone_gflop(backbone, height, width)
    except (ValueError, RuntimeError, AttributeError) as error:
        # A count must not cost a finished run its record.
        runner.logger.warning(f'GFLOP of the backbone cannot be counted: {error}')
        return None
