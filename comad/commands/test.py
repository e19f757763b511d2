"""Test a trained checkpoint of any transfer config on its validation set."""

import argparse
import sys

from comad.commands.command import command
from comad.engine.options import COMMON, add_options, run_options
from comad.runs.place import enter_home, find_config, typed, worded

EXAMPLES = """examples:
  python tools/test.py seg_configs/upernet_comad_tiny.py --sample     # its newest checkpoint
  python tools/test.py det_configs/mask_rcnn_comad_tiny.py CHECKPOINT
  python tools/test.py seg_configs/upernet_comad_tiny.py --tta        # several scales and flipped
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=worded(EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', type=find_config, help='a leaf of cls_, seg_ or det_configs/')
    parser.add_argument(
        'checkpoint', type=typed, nargs='?', help='default: the newest checkpoint of the work dir'
    )
    add_options(parser, *COMMON, 'tta')
    # CHECKPOINT may come after options.
    return parser.parse_intermixed_args(argv)


@command
def main(argv: list[str] | None = None) -> int:
    """Test; exit codes as those of training."""
    args = parse_args(argv)
    enter_home()
    from comad.engine.launch import launch

    return launch(run_options(args), checkpoint=args.checkpoint, test=True)


if __name__ == '__main__':
    sys.exit(main())
