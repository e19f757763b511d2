"""What a config's training step costs, as plain values: seconds, GFLOP, memory, parts."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.logging import MMLogger

from comad.benchmark import timing
from comad.benchmark.parts import watch_parts
from comad.benchmark.reference import largest_difference, straightforward
from comad.benchmark.stock import check_stock, stock
from comad.benchmark.workload import Workload, build, wrap
from comad.engine.autocast import computes_in_bfloat16
from comad.engine.batches import make_batch
from comad.engine.distillation import DISTILL, other_student
from comad.engine.flops import IMAGES, count_training
from comad.engine.models import compiles, eagerly, prepare_compiling
from comad.engine.options import RunOptions
from comad.engine.run_config import load_run_config
from comad.runs.environment import collect_environment

import comad.engine.register  # noqa: F401  isort:skip


@dataclass(frozen=True)
class How:
    """How a step is measured.

    Attributes:
        batch: images.
        precision: 'float32' or 'bfloat16'.
        rounds: turns of each piece of work.
        steps: calls per turn, see `timing.interleave`.
        compile: whether networks are compiled; the same step without is then timed as well.
        compare: what else is timed: 'reference', a distillation's other method, or nothing.
        until: of `timing.interleave`.
    """

    batch: int
    precision: str
    rounds: int = 5
    steps: int | None = None
    compile: bool = False
    compare: str | None = None
    until: float | None = None


def load_step(options: RunOptions) -> Any:
    """The resolved config of a training, whose data, teachers and students need not be there.

    Raises:
        ValueError: it trains nothing.
    """
    # Building a model and an optimizer tells what a training would; here figures are the output.
    if not MMLogger.check_instance_created('benchmark'):
        MMLogger.get_instance('benchmark', log_level='ERROR')
    cfg = load_run_config(options, check=False)
    if 'optim_wrapper' not in cfg:
        raise ValueError(f'{options.config} trains nothing: there is no step to measure')
    return cfg


def usual_batch(cfg: Any, device: Any) -> int:
    """Images of a step where nobody names them: the config's on a GPU, else 8."""
    return cfg.train_dataloader.batch_size if device.type == 'cuda' else 8


def usual_precision(cfg: Any, device: Any) -> str:
    """The config's, or float32 where the hardware has no bfloat16."""
    wanted = cfg.optim_wrapper.get('dtype', 'float32')
    return wanted if computes_in_bfloat16(device.type) else 'float32'


def measure(
    options: RunOptions,
    cfg: Any,
    device: Any,
    how: How,
    progress: Callable[[int, int], None] | None = None,
    keep: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """All figures of one config's step as plain values; see `step_report` for their meaning.

    ``keep`` is called with those that are there, after every round.

    Raises:
        ValueError: there is nothing of that name to compare with.
    """
    check_comparison(cfg, how.compare)
    ours = build(cfg, device, how.precision, how.batch)
    compiled = compiles(how.compile, ours.model)
    result: dict[str, Any] = {
        'config': cfg.run.config,
        'student': cfg.run.student,
        'cfg_options': options.cfg_options,
        'track': cfg.run.track,
        'precision': how.precision,
        'batch': how.batch,
        'compiled': compiled,
        'gflop_per_image': count(cfg, ours),
    }
    gpu = device.type == 'cuda'
    if gpu:  # as a run does
        torch.backends.cudnn.benchmark = bool(cfg.env_cfg.get('cudnn_benchmark'))
    held = timing.held_memory_gib(device)
    others = alternatives(options, cfg, ours, how, result) if how.compare else {}
    work: dict[str, Callable[[], object]] = {'step': ours.step}
    if compiled:
        prepare_compiling()
        compile_model(ours.model)

        def plain() -> object:
            with eagerly():
                return ours.step()

        work['not compiled'] = plain
    if teachers := teachers_alone(ours):
        work['teachers alone'] = teachers
    work |= {name: workload.step for name, workload in others.items()}
    held = timing.held_memory_gib(device) - held  # by what the step itself does not need
    result['first_step_seconds'] = first_step(ours, device)
    if gpu:  # of a CPU's memory nobody can tell what it holds for whom
        torch.cuda.reset_peak_memory_stats(device)
        ours.step()
        result['peak_memory_gib'] = timing.peak_memory_gib(device) - held
    seconds, pieces = {}, len(work)
    result['seconds_per_step'] = seconds

    def told(done: int, total: int) -> None:
        if keep and done % pieces == 0 and len(seconds['step']):
            keep(result)
        if progress:
            progress(done, total)

    timing.interleave(work, device, how.rounds, how.steps, told, how.until, seconds)
    watched = max(2, how.rounds // 2)
    if cfg.run.folder == DISTILL:
        for name, other in others.items():
            result[f'parts_ms {name}'] = watch_parts(other, device, watched)
    result['parts_ms'] = watch_parts(ours, device, watched, compiled)
    return result


def check_comparison(cfg: Any, compare: str | None) -> None:
    """Refuse what a config's step cannot be compared with, before anything is built.

    Whether a distillation's method exists is found out with its config.
    """
    if not compare:
        return
    if cfg.run.folder not in ('pretrain', DISTILL):
        check_stock(cfg)
    if cfg.run.folder != DISTILL and compare != 'reference':
        raise ValueError(
            f'--compare {compare}: expected reference; methods are compared in '
            'distill_configs/ alone'
        )
    if cfg.run.folder == DISTILL and compare == cfg.run.method:
        raise ValueError(f'--compare {compare}: that is what is measured; name another method')


def alternatives(
    options: RunOptions, cfg: Any, ours: Any, how: How, result: dict[str, Any]
) -> dict[str, Any]:
    """What the step is compared with, by name; adds what was compared to ``result``."""
    if cfg.run.folder == DISTILL:
        return {how.compare: other_method(options, cfg, ours, how, result)}
    if cfg.run.folder != 'pretrain':
        other, result['compared_with'] = stock(cfg, ours, how.precision)
        return {'reference': other}
    model = straightforward(ours.model)
    other = Workload(model, wrap(cfg, model, how.precision), ours.batch, ours.images)
    result['compared_with'] = (
        'the same function with all tokens, dropped ones masked in attention; the same precision, '
        'nothing compiled'
    )
    result['largest_difference_float32'] = largest_difference(ours, other)
    found = {'reference': other}
    if how.precision != 'float32':
        wrapper = wrap(cfg, model, 'float32')
        found['reference float32'] = Workload(model, wrapper, ours.batch, ours.images)
    return found


def other_method(options: RunOptions, cfg: Any, ours: Any, how: How, result: dict[str, Any]) -> Any:
    """The step of another method on a distillation's batch, teacher and student the same.

    Raises:
        ValueError: no method of that name.
    """
    config = load_step(replace(options, student=other_student(cfg, how.compare)))
    device = next(ours.model.parameters()).device
    other = build(config, device, how.precision, how.batch)
    result['compared_with'] = f'{config.run.student}; the same precision, nothing compiled'
    result[f'gflop_per_image {how.compare}'] = count(config, other)
    return other


def count(cfg: Any, ours: Any) -> float:
    """Counted GFLOP of one image's step, forward and backward."""
    device = next(ours.model.parameters()).device
    few = make_batch(cfg._cfg_dict.to_dict(), IMAGES, device)
    return round(count_training(ours.model, few, IMAGES), 3)


def first_step(ours: Any, device: Any) -> float:
    """Seconds of the first step, in which networks are compiled, if they are.

    Raises:
        ValueError: fewer images than its batch norm can be trained on.
    """
    begin = time.perf_counter()
    try:
        ours.step()
    except ValueError as error:
        if 'more than 1 value per channel' in str(error):
            raise ValueError(
                f'--batch {ours.images}: a batch norm of this model sees one value per image and '
                'channel; expected 2 images or more'
            ) from error
        raise
    timing.synchronize(device)
    return time.perf_counter() - begin


def compile_model(model: Any) -> None:
    """What ``compile`` of a config does, see BenchmarkRunner."""
    if hasattr(model, 'compile_parts'):
        model.compile_parts()
    else:
        model.train_step = torch.compile(model.train_step)


def teachers_alone(ours: Any) -> Callable[[], object] | None:
    """The frozen forward passes of a step and nothing else, on masks that are already drawn."""
    model = ours.model
    if not hasattr(model, 'teacher_tokens') or not hasattr(model, 'draw_masks'):
        return None
    images = model.data_preprocessor(ours.batch, True)['inputs']
    masks = model.draw_masks(images)
    enabled = ours.wrapper.dtype == 'bfloat16'

    def work() -> None:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=enabled):
            model.teacher_tokens(images, masks)

    return work


def conditions(device: Any) -> dict[str, Any]:
    """Machine, versions and commit."""
    environment = collect_environment()
    environment['threads'] = torch.get_num_threads()
    environment['device'] = (
        torch.cuda.get_device_name(device) if device.type == 'cuda' else environment['cpu']
    )
    return environment
