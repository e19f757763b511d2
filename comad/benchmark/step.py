"""Images per second of a config's training step, part by part."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from comad.engine.distillation import DISTILL, other_student
from comad.engine.options import KeyValues, RunOptions, add_track
from comad.runs.place import find_config, get_track, typed

PRECISIONS = ('auto', 'float32', 'bfloat16')
# A step should cost at most what its teachers alone cost, divided by this.
TEACHER_SHARE = 0.85


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command; nothing heavy is imported."""
    parser.add_argument(
        'config', type=find_config, help='a leaf of pretrain_, cls_, seg_, det_ or distill_configs/'
    )
    add_track(parser)
    parser.add_argument(
        '--student',
        metavar='NAME',
        help='another student; of distillations <method>_<teacher>_<student>',
    )
    parser.add_argument(
        '--device', choices=('cpu', 'cuda'), help='(default: a GPU if there is one)'
    )
    parser.add_argument('--batch', type=int, help="images (default: the config's on a GPU, else 8)")
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='auto',
        help="auto: the config's, float32 where the hardware has no bfloat16",
    )
    parser.add_argument(
        '--compile', action='store_true', help='compile networks, as runs on GPUs do'
    )
    parser.add_argument(
        '--compare',
        metavar='WHAT',
        help='also time, in turns, reference: the straightforward way, for CoMAD all tokens run '
        'and dropped ones are masked in attention, for transfers stock mmseg / mmdet parts on a '
        'plain timm ViT; in distill_configs/ a method, such as kd: the same pair and recipe by it',
    )
    parser.add_argument('--rounds', type=int, default=5, help='turns of each (default %(default)s)')
    parser.add_argument('--steps', type=int, default=1, help='steps per turn (default %(default)s)')
    parser.add_argument('--threads', type=int, help='CPU threads (default: the cores)')
    parser.add_argument(
        '--json', type=typed, metavar='FILE', help='also write figures and conditions there'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=KeyValues,
        default={},
        metavar='KEY=VALUE',
        help='override config keys, e.g. model.teachers.2.mask_ratio=0.4',
    )


def run(args: argparse.Namespace, progress: Callable[[int, int], None] | None = None) -> int:
    """Measure and print; returns the exit code."""
    import torch
    from mmengine.logging import MMLogger

    from comad.data.pool import usable_cores
    from comad.engine.autocast import computes_in_bfloat16
    from comad.engine.run_config import load_run_config

    import comad.engine.register  # noqa: F401  isort:skip

    # Building a model and an optimizer tells what a training would; here figures are the output.
    MMLogger.get_instance('benchmark', log_level='ERROR')
    options = RunOptions(
        args.config, track=args.track, student=args.student, cfg_options=args.cfg_options
    )
    cfg = load_run_config(options, check=False)
    if 'optim_wrapper' not in cfg:
        raise ValueError(f'{args.config} trains nothing: there is no step to measure')
    torch.set_num_threads(args.threads or usable_cores())
    device = torch.device(args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise ValueError('--device cuda: there is no GPU here')
    precision = args.precision
    if precision == 'auto':
        wanted = cfg.optim_wrapper.get('dtype', 'float32')
        precision = wanted if computes_in_bfloat16(device.type) else 'float32'
    default = cfg.train_dataloader.batch_size if device.type == 'cuda' else 8
    batch = default if args.batch is None else args.batch
    for name, value in (('batch', batch), ('rounds', args.rounds), ('steps', args.steps)):
        if value < 1:
            raise ValueError(f'--{name} {value}: expected at least 1')
    measured = measure(cfg, device, precision, batch, args, progress)
    sys.stdout.write(text(measured) + '\n')
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(measured, indent=1) + '\n', encoding='utf-8')
    return 0


def measure(
    cfg: Any,
    device: Any,
    precision: str,
    batch: int,
    args: argparse.Namespace,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """All figures of one run as plain values; see `text` for their meaning."""
    import torch

    from comad.benchmark import timing
    from comad.benchmark.parts import watch_parts
    from comad.benchmark.workload import build

    ours = build(cfg, device, precision, batch)
    result: dict[str, Any] = {
        'config': cfg.run.config,
        'student': cfg.run.student,
        'cfg_options': args.cfg_options,
        'track': cfg.run.track,
        'precision': precision,
        'batch': batch,
        'compiled': bool(args.compile),
        'rounds': args.rounds,
        'steps_per_round': args.steps,
        'conditions': conditions(device),
        'gflop_per_image': count(ours),
    }
    others = alternatives(cfg, ours, precision, args, result) if args.compare else {}
    if args.compile:
        compile_model(ours.model)
    work: dict[str, Callable[[], object]] = {'step': ours.step}
    if teachers := teachers_alone(ours):
        work['teachers alone'] = teachers
    work |= {name: workload.step for name, workload in others.items()}
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
        ours.step()
        result['peak_memory_gib'] = timing.peak_memory_gib(device)
    seconds = timing.interleave(work, device, args.rounds, args.steps, progress)
    result.setdefault('peak_memory_gib', timing.peak_memory_gib(device))
    result['seconds_per_step'] = {name: list(values) for name, values in seconds.items()}
    dtype = getattr(torch, precision)
    result['matmul_tflops'] = timing.matmul_rate(device, dtype)
    watched = max(2, args.rounds // 2)
    result['parts_ms'] = watch_parts(ours, device, watched)
    if cfg.run.folder == DISTILL:
        for name, other in others.items():
            result[f'parts_ms {name}'] = watch_parts(other, device, watched)
    return result


def alternatives(
    cfg: Any, ours: Any, precision: str, args: argparse.Namespace, result: dict[str, Any]
) -> dict[str, Any]:
    """What the step is compared with, by name; adds what was compared to ``result``."""
    from comad.benchmark.reference import largest_difference, straightforward
    from comad.benchmark.stock import stock
    from comad.benchmark.workload import Workload, wrap

    if cfg.run.folder == DISTILL:
        return {args.compare: other_method(cfg, ours, precision, args, result)}
    if args.compare != 'reference':
        raise ValueError(
            f'--compare {args.compare}: expected reference; methods are compared in '
            'distill_configs/ alone'
        )
    if cfg.run.folder != 'pretrain':
        other, result['compared_with'] = stock(cfg, ours, precision)
        return {'reference': other}
    model = straightforward(ours.model)
    other = Workload(model, wrap(cfg, model, precision), ours.batch, ours.images)
    result['compared_with'] = (
        'the same function with all tokens, dropped ones masked in attention; the same precision, '
        'nothing compiled'
    )
    result['largest_difference_float32'] = largest_difference(ours, other)
    found = {'reference': other}
    if precision != 'float32':
        wrapper = wrap(cfg, model, 'float32')
        found['reference float32'] = Workload(model, wrapper, ours.batch, ours.images)
    return found


def other_method(
    cfg: Any, ours: Any, precision: str, args: argparse.Namespace, result: dict[str, Any]
) -> Any:
    """The step of another method on a distillation's batch, teacher and student the same.

    Raises:
        ValueError: no method of that name, or the config's own.
    """
    from comad.benchmark.workload import build
    from comad.engine.run_config import load_run_config

    if args.compare == cfg.run.method:
        raise ValueError(f'--compare {args.compare}: that is what is measured; name another method')
    student = other_student(cfg, args.compare)
    options = RunOptions(
        args.config, track=args.track, student=student, cfg_options=args.cfg_options
    )
    config = load_run_config(options, check=False)
    device = next(ours.model.parameters()).device
    other = build(config, device, precision, ours.images)
    result['compared_with'] = f'{config.run.student}; the same precision, nothing compiled'
    result[f'gflop_per_image {args.compare}'] = count(other)
    return other


def count(ours: Any) -> float:
    """Counted GFLOP of one image's step, forward and backward.

    Raises:
        ValueError: fewer images than its batch norm can be trained on.
    """
    from comad.engine.flops import count_training

    try:
        return round(count_training(ours.model, ours.batch, ours.images), 3)
    except ValueError as error:
        if 'more than 1 value per channel' in str(error):
            raise ValueError(
                f'--batch {ours.images}: a batch norm of this model sees one value per image and '
                'channel; expected 2 images or more'
            ) from error
        raise


def compile_model(model: Any) -> None:
    """What ``compile`` of a config does, see BenchmarkRunner."""
    import torch

    if hasattr(model, 'compile_parts'):
        model.compile_parts()
    else:
        model.train_step = torch.compile(model.train_step)


def teachers_alone(ours: Any) -> Callable[[], object] | None:
    """The frozen forward passes of a step and nothing else, on masks that are already drawn."""
    import torch

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
    import torch

    from comad.runs.environment import collect_environment

    environment = collect_environment()
    environment['threads'] = torch.get_num_threads()
    environment['device'] = (
        torch.cuda.get_device_name(device) if device.type == 'cuda' else environment['cpu']
    )
    return environment


def text(m: dict[str, Any]) -> str:
    """The figures as a person reads them."""
    from comad.benchmark.timing import Spread

    where, batch = m['conditions'], m['batch']
    seconds = {name: Spread.of(values) for name, values in m['seconds_per_step'].items()}
    step = seconds['step']
    rate = Spread(*(batch / value for value in (step.median, step.high, step.low)))
    changes = ''.join(f' {key}={value}' for key, value in m['cfg_options'].items())
    what = f'{m["config"]}, {m["student"]}' + get_track(m['track']).option + changes
    lines = [
        f'{what}: batch {batch}, {m["precision"]}, '
        f'{"compiled" if m["compiled"] else "not compiled"}, random weights and images',
        f'{where["device"]}, {where["threads"]} CPU threads, torch {where["versions"]["torch"]}, '
        f'{m["rounds"]} rounds x {m["steps_per_round"]} steps',
        '',
        f'{rate.text(1)} images/s, {1000 * step.median:.1f} ms per step',
    ]
    lines += _shares(m['parts_ms'])
    work = m['gflop_per_image']
    lines.append(f'{work:.2f} GFLOP per image, counted')
    used = work * rate.median / 1000
    lines.append(
        f'{used:.3g} TFLOP/s of the {m["matmul_tflops"]:.3g} that large {m["precision"]} matrix '
        f'products reach here: utilisation {100 * used / m["matmul_tflops"]:.0f} %'
    )
    lines.append(f'peak memory {m["peak_memory_gib"]:.2f} GiB')
    lines += _comparisons(m)
    return '\n'.join(lines)


def _comparisons(m: dict[str, Any]) -> list[str]:
    from comad.benchmark.timing import ratios

    lines, seconds = [], m['seconds_per_step']
    if 'teachers alone' in seconds:
        share = ratios(seconds, 'teachers alone', 'step')
        lines.append(
            f'the teachers alone take {share.text()} of a whole step (aim: {TEACHER_SHARE} or more)'
        )
    if 'compared_with' in m:
        difference = m.get('largest_difference_float32')
        lines += ['', f'compared with: {m["compared_with"]}']
        if difference is not None:
            lines.append(f'tokens and losses agree in float32 to {difference:.1g}')
        if m['compiled']:
            lines.append('note: ours is compiled, the other is not')
    for name in ('reference', 'reference float32'):
        if name in seconds:
            label = name if name != 'reference' else f'reference, {m["precision"]}'
            lines.append(f'{ratios(seconds, name, "step").text()} times faster than the {label}')
    for name in seconds:
        if parts := m.get(f'parts_ms {name}'):
            spread = ratios(seconds, 'step', name)
            lines.append(f'{spread.text()} times the time of {name}')
            lines.append(f'{name}: {m[f"gflop_per_image {name}"]:.2f} GFLOP per image, counted')
            lines += _shares(parts)
    return lines


def _shares(parts: dict[str, float]) -> list[str]:
    total = sum(parts.values())
    return [
        f'  {name:<24}{value:9.1f} ms {100 * value / total:5.1f} %' for name, value in parts.items()
    ]
