"""What a finished pretraining leaves behind: the student, its card, an official-layout file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from backbones import save_student
from backbones.checkpoints import write_torch
from comad.data.shard_manifest import describe_images
from comad.engine.flops import training_gflop_per_image
from comad.engine.unwrapping import unwrapped
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

    def after_train(self, runner: Any) -> None:
        if not is_main_process():
            return
        model, run = unwrapped(runner.model), runner.cfg.run
        info = runner.message_hub.runtime_info
        environment = collect_environment()
        parameters = sum(
            parameter.numel()
            for name, parameter in model.exported.named_parameters()
            if name != 'mask_token'
        )
        card = dict(
            name=run.student,
            method=run.method,
            method_version=model.method_version,
            arch=run.arch,
            params_m=round(parameters / 1e6, 4),
            config_digest=run.digest,
            config=run.config,
            epochs=runner.max_epochs,
            iterations=runner.iter,
            images_seen=info['images_seen'],
            seed=runner.seed,
            data='sample' if run.sample else _imagenet(runner.cfg),
            sample=run.sample,
            teachers=list(model.teacher_cards),
            licence=_licence(model.teacher_cards),
            pretrain_seconds=round(info['train_seconds'], 1),
            pretrain_gflop_per_image=self.gflop,
            git_commit=environment['git_commit'],
            versions=environment['versions'],
        )
        path = save_student(runner.work_dir, model.exported, card)
        runner.logger.info(f'Student written to {path}')
        if hasattr(model, 'official_checkpoint'):
            name, content = model.official_checkpoint()
            write_torch(Path(runner.work_dir) / name, content)


def _imagenet(cfg: Mapping[str, Any]) -> str:
    """The data's name, and how its images were made smaller if they were."""
    dataset = cfg['train_dataloader']['dataset']
    images = describe_images(Path(dataset.get('root', '')) / dataset.get('split', 'train'))
    return f'imagenet-1k, {images}' if images else 'imagenet-1k'


def _licence(teachers: list[dict[str, Any]]) -> str:
    """Licences of the teachers' weights, which a student derived from them has to respect."""
    names = sorted({teacher['licence'] for teacher in teachers})
    return ', '.join(names) if names else 'no teacher weights involved'
