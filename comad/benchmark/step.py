"""Images per second of a config's training step, part by part."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from comad.engine.options import KeyValues, RunOptions, add_track
from comad.runs.place import find_config, typed

PRECISIONS = ('auto', 'float32', 'bfloat16')


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
    parser.add_argument(
        '--steps', type=int, help='steps per turn (default: as many as take 0.4 s, at least one)'
    )
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

    from comad.benchmark import timing
    from comad.benchmark.measure import (
        How,
        conditions,
        load_step,
        measure,
        usual_batch,
        usual_precision,
    )
    from comad.benchmark.step_report import text
    from comad.data.pool import usable_cores

    for name in ('batch', 'rounds', 'steps', 'threads'):
        if (value := getattr(args, name)) is not None and value < 1:
            raise ValueError(f'--{name} {value}: expected at least 1')
    device = torch.device(args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise ValueError('--device cuda: there is no GPU here')
    options = RunOptions(
        args.config, track=args.track, student=args.student, cfg_options=args.cfg_options
    )
    cfg = load_step(options)
    how = How(
        args.batch or usual_batch(cfg, device),
        usual_precision(cfg, device) if args.precision == 'auto' else args.precision,
        args.rounds,
        args.steps,
        args.compile,
        args.compare,
    )
    with timing.threads(args.threads or usable_cores()):
        measured = {'conditions': conditions(device)}
        measured |= measure(options, cfg, device, how, progress)
        measured['matmul_tflops'] = timing.matmul_rate(device, getattr(torch, how.precision))
    sys.stdout.write(text(measured) + '\n')
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(measured, indent=1) + '\n', encoding='utf-8')
    return 0
