"""Look into weight files, turn them into one plain file, hand students to others."""

import argparse
import sys
from pathlib import Path

from backbones.families import FAMILIES, VIDEO_FAMILIES  # imports no torch
from backbones.files import one_line
from comad.commands.command import command
from comad.engine.options import ConfigError
from comad.engine.shipped import place, shipped_runs
from comad.runs.place import enter_home, typed, worded
from comad.runs.track import SAMPLE

EXAMPLES = """examples:
  python tools/weights.py inspect teachers/vit-b-300ep.pth.tar
  python tools/weights.py convert teachers/vit-b-300ep.pth.tar teachers/mocov3_base.safetensors
  python tools/weights.py export work_dirs/pretrain/comad_tiny/seed0 comad_tiny --to timm
  python tools/weights.py export work_dirs/pretrain/amd_video_small/seed0 amd --to videomae
  python tools/weights.py place videomae_video_large      # a teacher that comes with the sample

Nothing in a file is ever executed: one that asks for code is refused.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=worded(EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    inspect = commands.add_parser(
        'inspect', help='family, network, tensors used and left out, verdict; 1 if incomplete'
    )
    inspect.add_argument(
        'file', type=typed, metavar='FILE', help='a weight file, or a directory with one'
    )
    convert = commands.add_parser('convert', help='write one plain safetensors file and its card')
    convert.add_argument(
        'file', type=typed, metavar='FILE', help='a weight file, or a directory with one'
    )
    convert.add_argument(
        'out', type=typed, metavar='OUT.safetensors', help='its card is called OUT.json'
    )
    for part in (inspect, convert):
        part.add_argument(
            '--family',
            default='auto',
            choices=('auto', *FAMILIES, *VIDEO_FAMILIES),
            help='default: told by content',
        )
    export = commands.add_parser('export', help='write a student for other libraries')
    export.add_argument(
        'student', type=typed, metavar='STUDENT', help='student.safetensors or its folder'
    )
    export.add_argument(
        'out', type=typed, metavar='FOLDER', help='gets weights, configuration and model card'
    )
    export.add_argument(
        '--to', choices=('timm', 'onnx', 'videomae'), default='timm', help='default: timm'
    )
    place = commands.add_parser(
        'place',
        help='write a teacher that comes with the sample where its pretraining would have',
        description='Write a teacher that comes with the sample where its pretraining would have, '
        'whatever lies there. A run does so by itself with a teacher that is not there.',
    )
    known = ', '.join(shipped_runs(SAMPLE)) or 'none'
    place.add_argument('run', metavar='RUN', help=f'one of {known}')
    return parser.parse_args(argv)


def place_teacher(run: str) -> int:
    from backbones import CheckpointError

    try:
        print(f'{place(run, SAMPLE)}: {run} as it comes with the sample')
        return 0
    except (ConfigError, CheckpointError, OSError) as error:
        print(f'error: {one_line(error)}', file=sys.stderr)
        return 2


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    enter_home()
    if args.command == 'place':
        return place_teacher(args.run)
    source = Path(args.student if args.command == 'export' else args.file)
    if not source.exists():  # before torch is imported
        print(f'error: {source} does not exist; a weight file is expected there', file=sys.stderr)
        return 2
    from backbones import CheckpointError
    from comad import weights

    try:
        if args.command == 'inspect':
            report = weights.inspect_file(args.file, args.family)
            print(report.text())
            return 1 if report.problem else 0
        if args.command == 'convert':
            card = weights.convert(args.file, args.out, args.family)
            print(f'{args.out}: {card["family"]}, {card["network"]} of {card["source"]}')
            return 0
        if args.to == 'onnx':
            difference = weights.export_onnx(args.student, args.out)
            print(f'{args.out}: model.onnx, largest difference in onnxruntime {difference:.1e}')
            return 0
        if args.to == 'videomae':
            tensors = weights.export_videomae(args.student, args.out)
            print(f'{args.out}: videomae.pth, {len(tensors)} tensors that come back as they were')
            return 0
        config = weights.export_timm(args.student, args.out)
        print(f'{args.out}: {config["architecture"]}, features in timm identical')
        return 0
    except (CheckpointError, OSError) as error:
        print(f'error: {one_line(error)}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
