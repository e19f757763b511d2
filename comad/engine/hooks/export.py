"""What a finished pretraining leaves behind: the student, its card, an official-layout file."""

from pathlib import Path
from typing import Any

from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from backbones import save_student
from backbones.checkpoints import write_torch
from comad.data.identity import SAMPLE, identify
from comad.engine.flops import training_gflop_per_image
from comad.engine.models import unwrapped
from comad.engine.run_data import warn_unranked
from comad.engine.segments import SEGMENTS, digest_of, worth_telling
from comad.runs import questions
from comad.runs.card import make_card, unit_of
from comad.runs.environment import collect_environment


@HOOKS.register_module()
class StudentExportHook(Hook):
    """Writes ``student.safetensors`` and ``student.json`` to the work dir after the last step.

    A method with ``official_checkpoint()`` also writes its file in the layout of the official
    code, so that the run can serve as a teacher through the same reader as the real files.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Any) -> None:
        # On every process: a method may gather over all of them in its forward.
        self.gflop = training_gflop_per_image(runner)
        self.data = identify(runner.train_dataloader.dataset)
        if is_main_process():
            self.environment = collect_environment(world_size=get_world_size())
            reasons = questions.of_commit('student', self.environment['git_commit'])
            if self.environment['git_dirty']:
                reasons.append('uncommitted changes')
            reasons += questions.of_data('student.data', self.data)
            warn_unranked(runner, 'rows of this student', reasons)

    def after_train(self, runner: Any) -> None:
        if not is_main_process():
            return
        model, run = unwrapped(runner.model), runner.cfg.run
        info = runner.message_hub.runtime_info
        segments = info.get(SEGMENTS) or []
        parameters = sum(
            parameter.numel()
            for name, parameter in model.exported.named_parameters()
            if name != 'mask_token'
        )
        card = make_card(
            dict(
                name=run.student,
                method=run.method,
                method_version=model.method_version,
                arch=run.arch,
                architecture=model.exported.architecture(),
                params_m=round(parameters / 1e6, 4),
                config_digest=digest_of(segments, run.digest),
                config=run.config,
                epochs=runner.max_epochs,
                iterations=runner.iter,
                images_seen=info['images_seen'],
                unit=unit_of(model.exported.architecture()),
                seed=runner.seed,
                data=self.data,
                # A full-scale run refuses it, whatever this one was told.
                track=SAMPLE if self.data.name == SAMPLE else run.track,
                teachers=list(model.teacher_cards),
                licence=_licence(model.teacher_cards),
                pretrain_seconds=round(info['train_seconds'], 1),
                pretrain_gflop_per_image=self.gflop,
                git_commit=self.environment['git_commit'],
                versions=self.environment['versions'],
                **_start(model.backbone),
                **worth_telling(segments),
            )
        )
        path = save_student(runner.work_dir, model.exported, card.as_dict())
        runner.logger.info(f'Student written to {path}')
        if hasattr(model, 'official_checkpoint'):
            name, content = model.official_checkpoint()
            write_torch(Path(runner.work_dir) / name, content)


def _licence(teachers: list[dict[str, Any]]) -> str:
    """Licences of the teachers' weights, which a student derived from them has to respect."""
    names = sorted({teacher['licence'] for teacher in teachers})
    return ', '.join(names) if names else 'no teacher weights involved'


def _start(backbone: Any) -> dict[str, Any]:
    """What a card says of the file that the first weights were read from, if any was."""
    found = getattr(backbone, 'loaded_from', None)
    return {} if found is None else dict(start=found)
